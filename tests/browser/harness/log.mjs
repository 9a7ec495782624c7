// @ts-check
/** What must be true of a conversation's log, wherever it is read. */

import assert from 'node:assert/strict'

/** @typedef {{ seq: number, key: string, from: string }} Entry */

/**
 * 1, 2, 3 … without a gap.
 * @param {readonly { seq: number }[]} log
 * @param {number} last
 * @param {string} [where]
 */
export function assertWhole(log, last, where = 'the log') {
  const seqs = log.map((message) => message.seq)
  const missing = Array.from({ length: last }, (_, index) => index + 1).filter((seq) => !seqs.includes(seq))
  assert.deepEqual(missing, [], `seqs missing in ${where}`)
  assert.deepEqual(seqs, [...new Set(seqs)].sort((a, b) => a - b), `the order in ${where}`)
  assert.equal(seqs.length, last, `the length of ${where}`)
}

/**
 * The same messages at the same places.
 * @param {readonly Entry[]} log
 * @param {readonly Entry[]} expected
 * @param {string} where
 */
export function assertSame(log, expected, where) {
  const names = (/** @type {readonly Entry[]} */ list) => list.map(({ seq, from, key }) => `${seq} ${from} ${key}`)
  assert.deepEqual(names(log), names(expected), where)
}

/**
 * What one sender wrote is there once and in the order of writing.
 * @param {readonly { from: string, body: import('hongyan').Body }[]} log
 * @param {string} from
 * @param {readonly string[]} texts
 */
export function assertWritten(log, from, texts) {
  assert.deepEqual(log.filter((message) => message.from === from).map((message) => message.body.text), texts, `what ${from} wrote`)
}
