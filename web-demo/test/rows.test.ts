import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Message } from 'hongyan'
import { rowsOf } from '../src/chat/rows.ts'
import { EMPTY, merge } from '../src/chat/timeline.ts'

const NOON = new Date(2026, 10, 23, 12).getTime()
const MINUTE = 60_000

function message(seq: number, from: string, time: number): Message {
  return { conversation: 'c', seq, key: `k${seq}`, from, time, body: { text: 'x' }, status: 'sent' }
}

function flags(messages: readonly Message[], readSeq?: number): string[] {
  return rowsOf(merge(EMPTY, messages), 'alice', readSeq).map((row) =>
    [row.own && 'own', row.first && 'first', row.last && 'last', row.day && 'day', row.fresh && 'fresh']
      .filter((flag) => flag !== false)
      .join(' '),
  )
}

test('what one sender wrote in one go is one group', () => {
  const rows = flags([
    message(1, 'bob', NOON),
    message(2, 'bob', NOON + MINUTE),
    message(3, 'alice', NOON + 2 * MINUTE),
    message(4, 'alice', NOON + 9 * MINUTE),
  ])
  assert.deepEqual(rows, ['first day', 'last', 'own first last', 'own first last'])
})

test('a new day begins a new group under its heading', () => {
  const midnight = new Date(2026, 10, 24).getTime()
  const rows = flags([message(1, 'bob', midnight - 1), message(2, 'bob', midnight)])
  assert.deepEqual(rows, ['first last day', 'first last day'])
})

test('the first unread message of another begins a group; own ones are never unread', () => {
  const rows = flags(
    [message(1, 'bob', NOON), message(2, 'alice', NOON), message(3, 'bob', NOON), message(4, 'bob', NOON)],
    1,
  )
  assert.deepEqual(rows, ['first last day', 'own first last', 'first fresh', 'last'])
})

test('a row keeps its id from sending to sent', () => {
  const pending: Message = { ...message(0, 'alice', NOON), key: 'k9', status: 'sending' }
  const before = rowsOf(merge(EMPTY, [pending]), 'alice', undefined)[0]
  const after = rowsOf(merge(EMPTY, [{ ...pending, seq: 9, status: 'sent' }]), 'alice', undefined)[0]
  assert.equal(before?.id, after?.id)
})
