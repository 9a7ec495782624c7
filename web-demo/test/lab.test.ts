import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LOG_ENTRIES_MAX, lines, logText, stamp, withEntry, type LogEntry } from '../src/lab/log.ts'
import { isNote, TABS_MAX, withTab, withoutTab, type Tab } from '../src/lab/roster.ts'

const AT = new Date(2026, 10, 23, 14, 2, 3, 45).getTime()

test('the log keeps the newest lines, each with its own id', () => {
  let log: readonly LogEntry[] = []
  for (let at = 1; at <= LOG_ENTRIES_MAX + 2; at++) log = withEntry(log, at, 'message', `#${at}`)
  assert.equal(log.length, LOG_ENTRIES_MAX)
  assert.deepEqual([log[0]?.text, log.at(-1)?.text], ['#3', `#${LOG_ENTRIES_MAX + 2}`])
  assert.equal(new Set(log.map(({ id }) => id)).size, LOG_ENTRIES_MAX)
})

test('a line has milliseconds', () => {
  assert.equal(stamp(AT), '14:02:03.045')
  assert.equal(logText(withEntry([], AT, 'gap', 'read anew')), '14:02:03.045  gap       read anew')
})

test('a presence is told with its devices, a single one by its kind alone', () => {
  const lost = { status: 'offline', cause: 'lost', since: AT } as const
  const online = { kind: 'web', status: 'online', since: AT } as const
  const away = { kind: 'android', status: 'away', cause: 'background', since: AT } as const
  assert.equal(lines.presence({ user: 'bob', ...lost, devices: [] }), 'bob offline (lost) since 14:02:03.045')
  assert.equal(lines.presence({ user: 'bob', status: 'online', since: AT, devices: [online] }), 'bob online since 14:02:03.045 [web]')
  assert.equal(
    lines.presence({ user: 'bob', status: 'online', devices: [online, away] }),
    'bob online [web online since 14:02:03.045; android away (background) since 14:02:03.045]',
  )
})

test('no line has what somebody wrote', () => {
  const message = { conversation: 'c', seq: 7, key: 'k'.repeat(32), from: 'bob', time: AT, body: { text: 'secret' }, status: 'sent' } as const
  assert.equal(lines.message(message), '#7 from bob in c')
  assert.equal(lines.outbox(message), 'kkkkkkkk sent as #7')
  assert.equal(lines.change({ kind: 'edited', by: 'bob', time: AT, message }), 'bob edited #7 in c')
  assert.equal(lines.change({ kind: 'reacted', by: 'bob', time: AT, reaction: '👍', message }), 'bob reacted #7 in c (👍)')
})

function tab(id: string, began: number): Tab {
  return { id, began, leads: false, hidden: false, frozen: false, status: 'online' }
}

test('tabs are listed once, the oldest first, up to a bound', () => {
  const two = withTab(withTab([], tab('b', 2)), tab('a', 1))
  assert.deepEqual(two.map(({ id }) => id), ['a', 'b'])
  assert.deepEqual(withTab(two, { ...tab('b', 2), leads: true }).map(({ leads }) => leads), [false, true])
  assert.deepEqual(withoutTab(two, 'a').map(({ id }) => id), ['b'])
  let many: readonly Tab[] = []
  for (let n = 0; n < TABS_MAX + 5; n++) many = withTab(many, tab(`t${n}`, n))
  assert.equal(many.length, TABS_MAX)
})

test('what is no note of this version is no note', () => {
  const here = { say: 'here', tab: tab('a', 1), asks: true, cut: false }
  for (const note of [here, { say: 'gone', id: 'a' }, { say: 'do', id: 'a', order: 'freeze' }, { say: 'network', cut: true }]) {
    assert.ok(isNote(note))
  }
  for (const other of [null, 'here', {}, { ...here, tab: {} }, { say: 'do', id: 'a', order: 'burn' }, { say: 'network' }]) {
    assert.ok(!isNote(other))
  }
})
