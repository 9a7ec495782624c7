// @ts-check
/// <reference path="./globals.d.ts" />
/** A page that has nothing but the SDK. `window.hongyan` is the package, `window.chat` the chat. */

import { readCache } from './cache.mjs'
import { newPage, newProfile } from './chromium.mjs'
import { until } from './wait.mjs'

/** What is needed of a page, whoever drives it. @typedef {{ goto(url: string): Promise<unknown>, evaluate: import('playwright-core').Page['evaluate'] }} AnyPage */

/** @template {AnyPage} [Page=import('playwright-core').Page] */
export class SdkPage {
  /**
   * @param {Page} page
   * @param {string} user
   */
  constructor(page, user) {
    this.page = page
    this.user = user
  }

  /**
   * Opens an empty page and imports the package; connects when told to.
   * @param {import('./scene.mjs').Scene} scene
   * @param {string} user
   * @param {string} origin of a front
   * @param {{ profile?: import('playwright-core').BrowserContext, connect?: boolean, storage?: 'indexeddb' | 'memory', device?: string }} [options]
   */
  static async open(scene, user, origin, { profile, connect = true, storage, device = '' } = {}) {
    const context = profile ?? (await newProfile(scene))
    const page = await newPage(scene, context, `${user}${device}`)
    const one = new SdkPage(page, user)
    scene.shows(`${user}${device}`, () => page.evaluate(async () => ({ state: window.chat?.state, conversations: await window.chat?.conversations(), kept: window.kept })))
    await one.load(origin)
    if (connect) await one.connect(storage === undefined ? {} : { storage })
    return one
  }

  /** @param {string} origin */
  async load(origin) {
    await this.page.goto(`${origin}/sdk/`)
    await this.page.evaluate(async () => {
      window.kept = {}
      window.hongyan = await import(/** @type {string} */ ('/sdk/hongyan/index.js'))
    })
  }

  /**
   * Connects with tokens of the development mode, and keeps every event in `kept.events`.
   * @param {Partial<import('hongyan').ConnectOptions>} [options]
   */
  async connect(options = {}) {
    await this.page.evaluate(
      async ({ user, options }) => {
        const token = async () => {
          const response = await fetch(`/dev/token?user=${user}`)
          if (!response.ok) throw new Error(`No token: ${response.status}.`)
          return response.text()
        }
        window.chat = await window.hongyan.connect({ user, token, ...options })
        /** @type {[string, unknown, number][]} */
        const events = (window.kept.events = [])
        for (const name of /** @type {const} */ (['message', 'change', 'outbox', 'conversation', 'state', 'gap', 'group', 'presence', 'profile', 'typing'])) {
          window.chat.on(name, (payload) => events.push([name, payload, Date.now()]))
        }
      },
      { user: this.user, options },
    )
  }

  state() {
    return this.page.evaluate(() => window.chat.state)
  }

  async online() {
    await until(`${this.user} is online and caught up`, async () => {
      const state = await this.state()
      return state.status === 'online' && state.caughtUp
    }, { seen: () => this.state() })
  }

  /**
   * The payloads of one kind of event, in the order in which they came.
   * @template {keyof import('hongyan').Events} Event
   * @param {Event} event
   * @returns {Promise<import('hongyan').Events[Event][]>}
   */
  events(event) {
    return this.page.evaluate(
      (event) => window.kept.events.filter((/** @type {[string, unknown]} */ one) => one[0] === event).map((/** @type {[string, unknown]} */ one) => one[1]),
      event,
    )
  }

  cache() {
    return readCache(this.page, this.user)
  }
}
