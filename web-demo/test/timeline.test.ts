import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Message } from 'hongyan'
import {
  EMPTY,
  fromNewest,
  hole,
  merge,
  replace,
  trimNewest,
  trimOldest,
  withNewer,
  withOlder,
  without,
  WINDOW_MESSAGES_MAX,
  type Timeline,
} from '../src/chat/timeline.ts'

function sent(seq: number, from = 'bob', key = `k${seq}`): Message {
  return { conversation: 'c', seq, key, from, time: seq * 1000, body: { text: `${from} ${seq}` }, status: 'sent' }
}

function pending(key: string, status: 'sending' | 'failed' = 'sending'): Message {
  return { conversation: 'c', seq: 0, key, from: 'alice', time: 1, body: { text: key }, status }
}

function range(first: number, last: number): Message[] {
  return Array.from({ length: last - first + 1 }, (_, index) => sent(first + index))
}

function seqs(timeline: Timeline): number[] {
  return timeline.sent.map((message) => message.seq)
}

test('messages come out sorted by seq, each once, whatever the order and the repeats', () => {
  const timeline = merge(merge(EMPTY, [sent(3), sent(1), sent(3)]), [sent(2), sent(1), sent(5), sent(4)])
  assert.deepEqual(seqs(timeline), [1, 2, 3, 4, 5])
})

test('any split and shuffle of the same messages gives the same timeline', () => {
  // A small generator, so that a failure can be repeated: the seed is the report.
  for (let seed = 1; seed <= 200; seed++) {
    let state = seed
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return state % below
    }
    const log = Array.from({ length: 40 }, (_, index) => sent(index + 1, index % 3 === 0 ? 'alice' : 'bob'))
    const events: Message[] = [...log, ...log.filter(() => random(3) === 0)]
    for (const message of log) if (message.from === 'alice') events.push({ ...pending(message.key), time: message.time })
    for (let at = events.length - 1; at > 0; at--) {
      const other = random(at + 1)
      ;[events[at], events[other]] = [events[other] as Message, events[at] as Message]
    }
    let timeline = EMPTY
    while (events.length > 0) timeline = merge(timeline, events.splice(0, 1 + random(7)))
    assert.deepEqual(seqs(timeline), log.map((message) => message.seq), `seed ${seed}`)
    assert.deepEqual(timeline.waiting, [], `seed ${seed}`)
  }
})

test('a pending message stands behind the log and gives way to itself once it is sent', () => {
  let timeline = merge(EMPTY, [sent(1), pending('a'), pending('b')])
  assert.deepEqual(timeline.waiting.map((message) => message.key), ['a', 'b'])
  timeline = merge(timeline, [sent(2, 'alice', 'a')])
  assert.deepEqual(seqs(timeline), [1, 2])
  assert.deepEqual(timeline.waiting.map((message) => message.key), ['b'])
})

test('a late sending event does not bring back what is sent', () => {
  const timeline = merge(merge(EMPTY, [sent(1, 'alice', 'a')]), [pending('a')])
  assert.deepEqual(seqs(timeline), [1])
  assert.deepEqual(timeline.waiting, [])
})

test('another user with the same key is another message', () => {
  const timeline = merge(merge(EMPTY, [pending('k')]), [sent(1, 'bob', 'k')])
  assert.equal(timeline.waiting.length, 1)
  assert.deepEqual(seqs(timeline), [1])
})

test('failed and tried again keeps its place', () => {
  let timeline = merge(EMPTY, [pending('a'), pending('b')])
  timeline = merge(timeline, [pending('a', 'failed')])
  assert.deepEqual(timeline.waiting.map(({ key, status }) => [key, status]), [['a', 'failed'], ['b', 'sending']])
  timeline = merge(timeline, [pending('a')])
  assert.deepEqual(timeline.waiting.map(({ key, status }) => [key, status]), [['a', 'sending'], ['b', 'sending']])
  assert.deepEqual(without(timeline, 'a').waiting.map((message) => message.key), ['b'])
})

test('a window that ends before the head does not grow a hole', () => {
  const timeline: Timeline = { ...merge(EMPTY, range(10, 20)), newer: true }
  assert.deepEqual(seqs(merge(timeline, [sent(99)])), seqs(timeline))
  // Yet an own message that was sent leaves the waiting ones.
  const waiting = merge(timeline, [pending('a')])
  assert.deepEqual(merge(waiting, [sent(99, 'alice', 'a')]).waiting, [])
})

test('pages join at both ends, and the far end is let go beyond the bound', () => {
  let timeline = fromNewest(EMPTY, [...range(951, 1000), pending('a')])
  assert.equal(timeline.older, true)
  assert.equal(timeline.newer, false)
  for (let first = 901; first >= 1; first -= 50) timeline = withOlder(timeline, range(first, first + 49))
  assert.equal(timeline.sent.length, WINDOW_MESSAGES_MAX)
  assert.equal(timeline.sent[0]?.seq, 1)
  assert.equal(timeline.older, false)
  assert.equal(timeline.newer, true)
  for (let last = timeline.sent.at(-1)?.seq ?? 0; last < 1000; last += 50) {
    timeline = withNewer(timeline, range(last + 1, last + 50), 1000)
  }
  assert.equal(timeline.sent.at(-1)?.seq, 1000)
  assert.equal(timeline.sent.length, WINDOW_MESSAGES_MAX)
  assert.equal(timeline.newer, false)
  assert.equal(timeline.older, true)
  assert.equal(hole(timeline), undefined)
  assert.equal(timeline.waiting.length, 1)
})

test('an empty page ends the search for older ones', () => {
  assert.equal(withOlder({ ...merge(EMPTY, range(5, 9)), older: true }, []).older, false)
})

test('trimming keeps the near end and remembers that there is more', () => {
  const timeline = merge(EMPTY, range(1, 10))
  assert.deepEqual(seqs(trimOldest(timeline, 3)), [8, 9, 10])
  assert.equal(trimOldest(timeline, 3).older, true)
  assert.deepEqual(seqs(trimNewest(timeline, 3)), [1, 2, 3])
  assert.equal(trimNewest(timeline, 3).newer, true)
  assert.equal(trimOldest(timeline, 10), timeline)
})

test('a hole is found where it is', () => {
  assert.equal(hole(merge(EMPTY, range(1, 5))), undefined)
  assert.equal(hole(merge(EMPTY, [...range(1, 5), sent(9)])), 5)
})

test('inputs are not changed', () => {
  const page = Object.freeze(range(1, 3).map((message) => Object.freeze(message)))
  const timeline = Object.freeze(merge(EMPTY, page))
  Object.freeze(timeline.sent)
  merge(timeline, Object.freeze([sent(2), sent(4)]))
  assert.deepEqual(seqs(timeline), [1, 2, 3])
})

test('a change is shown where the message is, and brings nothing into the window', () => {
  const timeline = merge(EMPTY, range(5, 8))
  const edited = { ...sent(6), body: { text: 'new' }, edited: 9 }
  const changed = replace(timeline, [{ ...sent(2), recalled: 9 }, edited])
  assert.deepEqual(seqs(changed), [5, 6, 7, 8])
  assert.equal(changed.sent[1], edited)
  assert.equal(changed.sent[0], timeline.sent[0])
  assert.equal(replace(timeline, [{ ...sent(2), recalled: 9 }]), timeline)
})
