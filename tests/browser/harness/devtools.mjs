// @ts-check
/**
 * Chromium by its own protocol, over a pipe. Playwright makes every page believe that it is seen and has the focus;
 * here tabs are hidden and frozen as Chromium does it.
 */

import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { browserProgram } from '../../../scripts/lib/browser.mjs'
import { FLAGS } from './chromium.mjs'
import { SdkPage } from './sdk.mjs'
import { until } from './wait.mjs'

/** The longest that an answer may take. */
const ANSWER_MS = 30_000

export class Devtools {
  #next = 1
  /** @type {Map<number, { resolve: (value: any) => void, reject: (error: Error) => void, method: string }>} */
  #waiting = new Map()
  #rest = ''

  /** @param {import('node:child_process').ChildProcess} child */
  constructor(child) {
    this.child = child
    const [input, output] = [child.stdio[3], child.stdio[4]]
    this.input = /** @type {import('node:stream').Writable} */ (input)
    output?.on('data', (chunk) => this.#read(String(chunk)))
  }

  /**
   * A browser with a profile of its own; it ends with the scene.
   * @param {import('./scene.mjs').Scene} scene
   */
  static async launch(scene) {
    const program = browserProgram()
    if (program === undefined) throw new Error('No Chromium was found: install Chromium or Chrome, or name its program in HONGYAN_CHROMIUM.')
    const profile = await mkdtemp(join(tmpdir(), 'hongyan-chromium-'))
    const flags = ['--headless=new', '--remote-debugging-pipe', `--user-data-dir=${profile}`, ...FLAGS, 'about:blank']
    const child = spawn(program, flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] })
    const ended = new Promise((resolve) => child.once('exit', resolve))
    scene.onEnd(async () => {
      child.kill('SIGKILL')
      await ended
      await rm(profile, { recursive: true, force: true, maxRetries: 5 })
    })
    const devtools = new Devtools(child)
    await devtools.send('Browser.getVersion')
    return devtools
  }

  /**
   * @param {string} method
   * @param {object} [params]
   * @param {string} [sessionId]
   * @returns {Promise<any>}
   */
  send(method, params = {}, sessionId = undefined) {
    const id = this.#next++
    this.input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id)
        reject(new Error(`${method} was not answered in ${ANSWER_MS} ms.`))
      }, ANSWER_MS)
      const settle = (/** @type {(value: any) => void} */ then) => (/** @type {any} */ value) => {
        clearTimeout(timer)
        then(value)
      }
      this.#waiting.set(id, { resolve: settle(resolve), reject: settle(reject), method })
    })
  }

  /** @param {string} text */
  #read(text) {
    const parts = (this.#rest + text).split('\0')
    this.#rest = parts.pop() ?? ''
    for (const part of parts) {
      const { id, result, error } = JSON.parse(part)
      const waiting = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (error) waiting?.reject(new Error(`${waiting.method}: ${error.message}`))
      else waiting?.resolve(result)
    }
  }

  /**
   * A page with the SDK, connected, in front of the others.
   * @param {string} user
   * @param {string} origin of a front
   * @param {Partial<import('hongyan').ConnectOptions>} [options]
   * @param {boolean} [newWindow] in a window of its own, so that it hides no other
   */
  async openSdk(user, origin, options, newWindow) {
    const tab = await this.openTab('about:blank', newWindow)
    const page = new SdkPage(tab, user)
    await page.load(origin)
    await page.connect(options)
    await page.online()
    return { tab, page }
  }

  /**
   * A tab in front of the others.
   * @param {string} url
   * @param {boolean} [newWindow]
   */
  async openTab(url, newWindow = false) {
    const { targetId } = await this.send('Target.createTarget', { url, newWindow })
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true })
    const tab = new Tab(this, targetId, sessionId)
    await this.send('Page.enable', {}, sessionId)
    return tab
  }
}

/** A tab of that browser. */
export class Tab {
  /**
   * @param {Devtools} devtools
   * @param {string} target
   * @param {string} session
   */
  constructor(devtools, target, session) {
    this.devtools = devtools
    this.target = target
    this.session = session
  }

  /**
   * @param {string} method
   * @param {object} [params]
   */
  send(method, params = {}) {
    return this.devtools.send(method, params, this.session)
  }

  /**
   * Runs a function in the page and gives what it gives.
   * @template Result, Argument
   * @param {(argument: Argument) => Result} body
   * @param {Argument} [argument]
   * @returns {Promise<Awaited<Result>>}
   */
  async evaluate(body, argument) {
    const expression = `(${body})(${JSON.stringify(argument) ?? 'undefined'})`
    const answer = await this.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true })
    if (answer.exceptionDetails) throw new Error(answer.exceptionDetails.exception?.description ?? answer.exceptionDetails.text)
    return answer.result.value
  }

  /** @param {string} url */
  async goto(url) {
    await this.send('Page.navigate', { url })
    await until(`${url} is loaded`, () => this.evaluate((url) => location.href === url && document.readyState === 'complete', url))
  }

  /** To the front: the tab that was there is hidden. */
  async show() {
    await this.devtools.send('Target.activateTarget', { targetId: this.target })
  }

  async close() {
    await this.devtools.send('Target.closeTarget', { targetId: this.target })
  }
}
