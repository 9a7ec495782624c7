// @ts-check
/** Waiting for something that can be seen, never for time to pass. */

import { setTimeout as delay } from 'node:timers/promises'

/** How long something may take that takes a moment on an idle machine. */
const WITHIN_MS = 20_000
const EVERY_MS = 40

/** What did not happen in time, with what was seen last. */
export class TooLate extends Error {
  /**
   * @param {string} what
   * @param {number} ms
   * @param {unknown} seen
   */
  constructor(what, ms, seen) {
    super(`Not within ${ms} ms: ${what}. Seen last: ${shown(seen)}`)
    this.name = 'TooLate'
  }
}

/**
 * Asks again and again until the answer is true-ish, and gives that answer. A probe that throws has not succeeded
 * yet: pages navigate, relays start.
 * @template T
 * @param {string} what in words, for the failure
 * @param {() => T | Promise<T>} probe
 * @param {{ within?: number, seen?: () => unknown }} [options] `seen` gives what to show when it fails
 * @returns {Promise<Exclude<T, false | undefined | null | 0 | ''>>}
 */
export async function until(what, probe, { within = WITHIN_MS, seen } = {}) {
  const end = performance.now() + within
  /** @type {unknown} */
  let last
  for (;;) {
    try {
      const answer = await probe()
      if (answer) return /** @type {Exclude<T, false | undefined | null | 0 | ''>} */ (answer)
      last = answer
    } catch (error) {
      last = error
    }
    if (performance.now() > end) {
      const more = seen === undefined ? last : await Promise.resolve().then(seen).catch((error) => error)
      throw new TooLate(what, within, more)
    }
    await delay(EVERY_MS)
  }
}

/**
 * A promise with a deadline.
 * @template T
 * @param {string} what
 * @param {Promise<T>} promise
 * @param {number} [within]
 * @returns {Promise<T>}
 */
export async function inTime(what, promise, within = WITHIN_MS) {
  const abort = new AbortController()
  const late = delay(within, undefined, { signal: abort.signal }).then(
    () => {
      throw new TooLate(what, within, 'nothing')
    },
    () => new Promise(() => {}),
  )
  try {
    return /** @type {T} */ (await Promise.race([promise, late]))
  } finally {
    abort.abort()
  }
}

/**
 * A value for people, not longer than a screen.
 * @param {unknown} value
 */
export function shown(value) {
  if (value instanceof Error) return value.message
  const text = typeof value === 'string' ? value : (JSON.stringify(value, undefined, 1) ?? String(value))
  return text.length > 6_000 ? `${text.slice(0, 6_000)} …` : text
}
