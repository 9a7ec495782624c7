import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Conversation } from 'hongyan'
import { unreadOf, upsert } from '../src/chat/list.ts'

function conversation(id: string, time: number, unread = 0): Conversation {
  return { id, kind: 'direct', title: id, peer: id, unread, readSeq: 0, lastSeq: 1, left: false, time }
}

function ids(list: readonly Conversation[]): string {
  return list.map(({ id }) => id).join('')
}

test('the newest stands first, and a changed one moves to its place', () => {
  let list = upsert([], [conversation('a', 1), conversation('c', 3), conversation('b', 2)])
  assert.equal(ids(list), 'cba')
  list = upsert(list, [conversation('a', 9, 4)])
  assert.equal(ids(list), 'acb')
  assert.equal(unreadOf(list), 4)
})

test('of several changes of one conversation the last counts', () => {
  const list = upsert([], [conversation('a', 1, 1), conversation('a', 2, 2)])
  assert.equal(list.length, 1)
  assert.equal(list[0]?.unread, 2)
})

test('what did not change keeps its identity', () => {
  const list = upsert([], [conversation('a', 1), conversation('b', 2)])
  const changed = upsert(list, [conversation('c', 3)])
  assert.equal(changed[1], list[0])
  assert.equal(changed[2], list[1])
  assert.equal(upsert(list, []), list)
})

test('equal times have one order', () => {
  assert.equal(ids(upsert(upsert([], [conversation('b', 1)]), [conversation('a', 1)])), 'ab')
  assert.equal(ids(upsert(upsert([], [conversation('a', 1)]), [conversation('b', 1)])), 'ab')
})
