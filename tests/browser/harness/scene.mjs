// @ts-check
/**
 * One test with real parts: whatever takes part says how to end it and how to show it. When the test fails, all
 * parts are shown; however it ends, all are ended, the last one first.
 */

import { test } from 'node:test'

import { inTime, shown } from './wait.mjs'

/** A part that does not end in this time is reported instead of waited for. */
const END_MS = 15_000

export class Scene {
  /** @type {(() => unknown)[]} */
  #ends = []
  /** @type {[string, () => unknown][]} */
  #parts = []
  /** @type {string[]} */
  #problems = []
  /** @type {RegExp[]} */
  #expected = []

  /** @param {() => unknown} end */
  onEnd(end) {
    this.#ends.push(end)
  }

  /**
   * @param {string} name
   * @param {() => unknown} show
   */
  shows(name, show) {
    this.#parts.push([name, show])
  }

  /**
   * A page or process did something that no test wants, unless {@link Scene.expect} names it.
   * @param {string} words
   */
  problem(words) {
    if (!this.#expected.some((pattern) => pattern.test(words))) this.#problems.push(words)
  }

  /**
   * Problems like these belong to what the test does: a relay that is down makes browsers complain.
   * @param {RegExp[]} patterns
   */
  expect(...patterns) {
    this.#expected.push(...patterns)
  }

  /** Fails when there was a problem. */
  check() {
    if (this.#problems.length > 0) throw new Error(`Unexpected:\n${this.#problems.slice(0, 20).join('\n')}`)
  }

  /** Everything that takes part, as text. */
  async report() {
    const lines = []
    for (const [name, show] of this.#parts) {
      const value = await inTime(`showing ${name}`, Promise.resolve().then(show), 3_000).catch((error) => error)
      lines.push(`── ${name}\n${typeof value === 'string' ? value : shown(value)}`)
    }
    if (this.#problems.length > 0) lines.push(`── problems\n${this.#problems.slice(0, 40).join('\n')}`)
    return lines.join('\n')
  }

  async end() {
    for (const end of this.#ends.reverse()) {
      await inTime('the end of a part', Promise.resolve().then(end), END_MS).catch((error) => console.error(error))
    }
  }
}

/** What a browser says when its relay can't be reached. */
export const UNREACHABLE = [/WebSocket connection to '[^']*' failed/, /Failed to load resource: .*(net::ERR_|50[234])/]

/**
 * A test with a scene.
 * @param {string} name
 * @param {(scene: Scene) => Promise<void>} body
 * @param {{ timeout?: number }} [options]
 */
export function scenario(name, body, { timeout = 90_000 } = {}) {
  test(name, { timeout: timeout + 2 * END_MS }, async () => {
    const scene = new Scene()
    try {
      await inTime(`the test "${name}"`, body(scene), timeout)
      scene.check()
    } catch (error) {
      console.error(`\n${name}: ${error instanceof Error ? error.message : error}\n${await scene.report()}\n`)
      throw error
    } finally {
      await scene.end()
    }
  })
}
