// @ts-check
/// <reference path="./globals.d.ts" />
/** Somebody who uses the demo: what she does, and what she sees. */

import { readCache } from './cache.mjs'
import { newPage, newProfile } from './chromium.mjs'
import { until } from './wait.mjs'

/** @typedef {{ seq: number, key: string, status: string, from: string, text: string }} SeenMessage */

/** @param {string} id */
const hook = (id) => `[data-testid="${id}"]`

export class Person {
  /** Sends whose promise was fulfilled, through all reloads: key → seq. @type {Map<string, number>} */
  confirmed = new Map()

  /**
   * @param {import('./scene.mjs').Scene} scene
   * @param {import('playwright-core').BrowserContext} profile
   * @param {import('playwright-core').Page} page
   * @param {string} user
   * @param {string} origin
   */
  constructor(scene, profile, page, user, origin) {
    this.scene = scene
    this.profile = profile
    this.page = page
    this.user = user
    this.origin = origin
  }

  /**
   * Opens the demo, signed in, in a profile of its own.
   * @param {import('./scene.mjs').Scene} scene
   * @param {string} user
   * @param {string} origin
   * @param {{ device?: string, profile?: import('playwright-core').BrowserContext }} [options]
   */
  static async enter(scene, user, origin, { device = '', profile } = {}) {
    const context = profile ?? (await newProfile(scene))
    const page = await newPage(scene, context, `${user}${device}`)
    const person = new Person(scene, context, page, user, origin)
    scene.shows(`${user}${device}`, () => person.look())
    await page.exposeBinding('confirmed', (_source, /** @type {string} */ _conversation, key, seq) => {
      if (person.confirmed.has(key)) scene.problem(`The send ${key} was confirmed twice.`)
      person.confirmed.set(key, seq)
    })
    await page.goto(`${origin}/demo/?user=${encodeURIComponent(user)}&debug`)
    await person.ready()
    return person
  }

  /**
   * The tab that the demo opens by itself when `act` is done.
   * @param {() => Promise<void>} act
   * @param {string} device
   */
  async opened(act, device) {
    const [page] = await Promise.all([this.profile.waitForEvent('page'), act()])
    page.on('pageerror', (error) => this.scene.problem(`${this.user}${device}'s page: ${error.stack ?? error.message}`))
    const person = new Person(this.scene, this.profile, page, this.user, this.origin)
    this.scene.shows(`${this.user}${device}`, () => person.look())
    await person.ready()
    return person
  }

  /** The demo runs and has its chat. */
  async ready() {
    await this.page.waitForFunction(() => window.hongyanDemo !== undefined)
  }

  /** Reloads, as the browser's button does. */
  async reload() {
    await this.page.reload()
    await this.ready()
  }

  async state() {
    return this.page.evaluate(() => window.hongyanDemo?.chat.state)
  }

  async online() {
    await until(`${this.user} is online and caught up`, async () => {
      const state = await this.state()
      return state?.status === 'online' && state.caughtUp
    }, { within: 40_000, seen: () => this.state() })
  }

  /**
   * Opens the conversation with somebody by the field for names; gives its id.
   * @param {string} peer
   */
  async startDirect(peer) {
    await this.page.locator(hook('new-direct')).fill(peer)
    await this.page.locator(hook('new-direct-submit')).click()
    await this.page.locator(hook('composer')).waitFor()
    return this.direct(peer)
  }

  /** @param {string} peer */
  async direct(peer) {
    return this.page.evaluate((peer) => /** @type {any} */ (window.hongyanDemo).chat.direct(peer), peer)
  }

  /** @param {string} conversation */
  async openConversation(conversation) {
    await this.line(conversation).click()
    await this.page.locator(hook('composer')).waitFor()
  }

  /** Back to the list, nothing open. */
  async closeConversation() {
    await this.page.evaluate(() => {
      location.hash = ''
    })
    await this.page.locator(hook('composer')).waitFor({ state: 'detached' })
  }

  /**
   * The conversation's line in the list.
   * @param {string} conversation
   */
  line(conversation) {
    return this.page.locator(`${hook('conversation')}[data-id="${conversation}"]`)
  }

  /**
   * How the peer is by the dot in the list: `online`, `away background` …
   * @param {string} conversation
   */
  async dot(conversation) {
    const dot = this.line(conversation).locator(hook('presence'))
    return dot.evaluate((element) => {
      const { status, cause } = /** @type {HTMLElement} */ (element).dataset
      return cause === undefined ? status : `${status} ${cause}`
    })
  }

  /**
   * Waits until the dot in the list is so.
   * @param {string} conversation
   * @param {string} wanted
   */
  async sees(conversation, wanted) {
    await until(`${this.user} sees "${wanted}"`, async () => (await this.dot(conversation)) === wanted, { seen: () => this.dot(conversation) })
  }

  /** The line under the heading of the open conversation: how the peer is, or who writes. */
  async subtitle() {
    return this.page.locator('.pane-subtitle').innerText()
  }

  /**
   * The tabs as the lab lists them, the oldest first.
   * @returns {Promise<{ id: string, leads: boolean }[]>}
   */
  labTabs() {
    return this.page.locator(hook('lab-tab')).evaluateAll((elements) =>
      elements.map((element) => {
        const { tab, leads } = /** @type {HTMLElement} */ (element).dataset
        return { id: tab ?? '', leads: leads === 'true' }
      }),
    )
  }

  /** The lines of the lab's log: the event's name and what is told of it. */
  async labLog() {
    const lines = await this.page.locator(hook('lab-line')).allInnerTexts()
    return lines.map((line) => line.replace(/\s+/g, ' ').trim())
  }

  /**
   * The unread count as the list shows it.
   * @param {string} conversation
   */
  async unread(conversation) {
    return Number((await this.line(conversation).getAttribute('data-unread')) ?? 0)
  }

  /**
   * Writes with the composer.
   * @param {string} text
   */
  async type(text) {
    const composer = this.page.locator(hook('composer'))
    await composer.fill(text)
    await composer.press('Enter')
  }

  /**
   * Sends through the SDK of this page; its promise's end is told to `confirmed`, however late.
   * @param {string} conversation
   * @param {string} text
   * @returns {Promise<string>} the key
   */
  async post(conversation, text) {
    const key = `${this.user}-${text.replaceAll(' ', '-')}`
    await this.page.evaluate(
      ({ conversation, text, key }) => {
        const { chat } = /** @type {NonNullable<typeof window.hongyanDemo>} */ (window.hongyanDemo)
        chat.send(conversation, { text }, { key }).then(
          (message) => window.confirmed(conversation, message.key, message.seq),
          (error) => console.error(`The send ${key} was rejected: ${error}`),
        )
      },
      { conversation, text, key },
    )
    return key
  }

  /**
   * The messages that are in the page now, from top to bottom.
   * @returns {Promise<SeenMessage[]>}
   */
  messages() {
    return this.page.locator(hook('message')).evaluateAll((elements) =>
      elements.map((element) => {
        const { seq, key, status, from } = /** @type {HTMLElement} */ (element).dataset
        const text = element.querySelector('[data-testid="message-text"]')?.textContent ?? ''
        return { seq: Number(seq ?? 0), key: key ?? '', status: status ?? '', from: from ?? '', text }
      }),
    )
  }

  /**
   * The message of this text, as the page shows it now.
   * @param {string} text
   */
  async messageOf(text) {
    return (await this.messages()).find((message) => message.text.trim() === text)
  }

  /**
   * The whole log by `chat.history`, page by page from the newest, and what waits after it.
   * @param {string} conversation
   */
  async history(conversation) {
    return this.page.evaluate(async (conversation) => {
      const { chat } = /** @type {NonNullable<typeof window.hongyanDemo>} */ (window.hongyanDemo)
      /** @type {import('hongyan').Message[]} */
      let all = []
      let page = await chat.history(conversation, { limit: 100 })
      while (page.length > 0) {
        all = [...page, ...all]
        const first = all.find((message) => message.seq > 0)
        if (first === undefined || first.seq === 1) break
        page = await chat.history(conversation, { before: first.seq, limit: 100 })
      }
      return all
    }, conversation)
  }

  /** @param {string} conversation */
  async conversation(conversation) {
    return this.page.evaluate(async (conversation) => {
      const { chat } = /** @type {NonNullable<typeof window.hongyanDemo>} */ (window.hongyanDemo)
      return (await chat.conversations()).find((one) => one.id === conversation)
    }, conversation)
  }

  cache() {
    return readCache(this.page, this.user)
  }

  /**
   * Scrolls through the whole open conversation, from the newest to the first, and gives what was seen, by seq. A
   * seq that shows twice at a time, or as two messages, or out of order, is an error.
   * @param {number} last how many there are
   */
  async scrollThrough(last) {
    /** @type {Map<number, SeenMessage>} */
    const seen = new Map()
    const take = async () => {
      const now = (await this.messages()).filter((message) => message.seq > 0)
      const seqs = now.map((message) => message.seq)
      const sorted = [...new Set(seqs)].sort((a, b) => a - b)
      if (seqs.join() !== sorted.join()) throw new Error(`${this.user} sees seqs in this order: ${seqs}`)
      for (const message of now) {
        const before = seen.get(message.seq)
        if (before !== undefined && (before.key !== message.key || before.text !== message.text)) {
          throw new Error(`${this.user} sees two messages with seq ${message.seq}: ${before.key}, ${message.key}`)
        }
        seen.set(message.seq, message)
      }
      return seqs
    }
    await until(`${this.user} sees the newest message`, async () => (await take()).includes(last))
    await until(
      `${this.user} scrolls to the first message`,
      async () => {
        // Less than a screen at a time, so that nothing is passed over.
        await this.page.locator(hook('message')).first().evaluate((element) => {
          let box = element.parentElement
          while (box !== null && !(box.scrollHeight > box.clientHeight && /auto|scroll/.test(getComputedStyle(box).overflowY))) {
            box = box.parentElement
          }
          if (box !== null) box.scrollTop -= Math.max(50, box.clientHeight * 0.6)
        })
        await take()
        return seen.size === last
      },
      { within: 30_000, seen: () => `seqs not seen: ${Array.from({ length: last }, (_, index) => index + 1).filter((seq) => !seen.has(seq))}` },
    )
    return [...seen.values()].sort((a, b) => a.seq - b.seq)
  }

  /** For a report. */
  async look() {
    const page = await this.page.evaluate(async () => {
      const chat = window.hongyanDemo?.chat
      const lines = chat === undefined ? [] : await chat.conversations()
      return {
        url: location.href,
        state: chat?.state,
        conversations: lines.map(({ id, unread, readSeq, lastSeq, left }) => ({ id, unread, readSeq, lastSeq, left })),
        text: document.body.innerText.slice(0, 600),
      }
    })
    const cache = await this.cache().catch((error) => String(error))
    const messages = await this.messages()
    const short = typeof cache === 'object' ? { cursor: cache.cursor, messages: cache.messages.length, outbox: cache.outbox } : cache
    return JSON.stringify({ ...page, visible: messages.slice(-12), cache: short }, undefined, 1)
  }
}
