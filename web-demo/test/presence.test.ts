import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withTyping } from '../src/chat/typings.ts'
import { en } from '../src/i18n/en.ts'
import { zh } from '../src/i18n/zh.ts'
import { presenceText, type Seen } from '../src/presence.ts'
import { isStopCode, STOPS } from '../src/stops.ts'

const clock = (): string => '14:02'

const CASES: readonly [Seen, string, string][] = [
  [{ status: 'online', since: 1 }, 'online', '在线'],
  [{ status: 'away', since: 1, cause: 'background' }, 'away since 14:02', '14:02 起离开'],
  [{ status: 'away' }, 'away', '离开'],
  [{ status: 'leaving', since: 1, cause: 'closed', until: 2 }, 'leaving…', '正在离开…'],
  [{ status: 'offline', since: 1, cause: 'lost' }, 'last seen 14:02 (connection lost)', '最后在线 14:02（连接中断）'],
  [{ status: 'offline', since: 1, cause: 'logout' }, 'last seen 14:02 (signed out)', '最后在线 14:02（已退出登录）'],
  [{ status: 'offline' }, 'offline', '离线'],
  [{ status: 'unknown' }, 'unknown: no way to know', '未知：无从得知'],
  [
    { status: 'unknown', cause: 'no-channel' },
    'unknown: no way to know (no channel to the device)',
    '未知：无从得知（没有通往设备的通道）',
  ],
  [{ status: 'unknown', cause: 'no-channel', until: 2 }, 'not known yet', '尚不清楚'],
]

test('how somebody is, in both languages', () => {
  for (const [seen, english, chinese] of CASES) {
    assert.equal(presenceText(en.presence, seen, clock), english)
    assert.equal(presenceText(zh.presence, seen, clock), chinese)
  }
})

test('who writes is listed in the order of beginning, each once, until the end is told', () => {
  const event = (user: string, typing: boolean) => ({ conversation: 'c', user, typing })
  const both = withTyping(withTyping(new Map(), event('bob', true)), event('carol', true))
  assert.deepEqual(both.get('c'), ['bob', 'carol'])
  assert.deepEqual(withTyping(both, event('bob', false)).get('c'), ['carol'])
  assert.deepEqual(withTyping(both, event('carol', true)).get('c'), ['bob', 'carol'])
  assert.equal(withTyping(withTyping(both, event('bob', false)), event('carol', false)).size, 0)
})

test('each end of a session that has words has them in both languages', () => {
  for (const dictionary of [en, zh]) assert.deepEqual(Object.keys(dictionary.stops).sort(), Object.keys(STOPS).sort())
  assert.ok(isStopCode('kicked'))
  assert.ok(!isStopCode('toString') && !isStopCode(undefined))
})
