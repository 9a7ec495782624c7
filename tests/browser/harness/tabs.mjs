// @ts-check
/// <reference path="./globals.d.ts" />
/** The tabs of one browser profile: one of them leads. */

import assert from 'node:assert/strict'

import { newProfile } from './chromium.mjs'
import { SdkPage } from './sdk.mjs'
import { until } from './wait.mjs'

export class TabGroup {
  /** @type {SdkPage[]} */
  tabs = []
  #opened = 0

  /**
   * @param {import('./scene.mjs').Scene} scene
   * @param {import('playwright-core').BrowserContext} profile
   * @param {string} user
   * @param {string} origin
   */
  constructor(scene, profile, user, origin) {
    this.scene = scene
    this.profile = profile
    this.user = user
    this.origin = origin
  }

  /**
   * Tabs of a new profile.
   * @param {import('./scene.mjs').Scene} scene
   * @param {string} user
   * @param {string} origin of a front
   * @param {number} count
   */
  static async open(scene, user, origin, count) {
    const group = new TabGroup(scene, await newProfile(scene), user, origin)
    for (let n = 0; n < count; n++) await group.openTab()
    return group
  }

  /** One tab more; it is connected when this ends. */
  async openTab() {
    const device = ` tab ${++this.#opened}`
    const tab = await SdkPage.open(this.scene, this.user, this.origin, { profile: this.profile, device })
    this.tabs.push(tab)
    return tab
  }

  /** The one tab that leads; waits until there is one and every tab shows the same state. */
  async leader() {
    const found = await until(
      'one tab leads, and all show the same',
      async () => {
        const states = await Promise.all(this.tabs.map((tab) => tab.state()))
        const leading = this.tabs.filter((_, index) => states[index]?.leader)
        const same = new Set(states.map(({ status, caughtUp, storage }) => JSON.stringify({ status, caughtUp, storage })))
        return leading.length === 1 && same.size === 1 && states[0]?.status === 'online' && leading[0]
      },
      { seen: () => Promise.all(this.tabs.map((tab) => tab.state())) },
    )
    assert.ok(found)
    return found
  }

  /** @param {SdkPage} tab */
  forget(tab) {
    this.tabs = this.tabs.filter((other) => other !== tab)
  }

  /**
   * As a person does.
   * @param {SdkPage} tab
   */
  async close(tab) {
    this.forget(tab)
    await tab.page.close({ runBeforeUnload: false })
  }

  /**
   * Its renderer ends at once: no event, no goodbye.
   * @param {SdkPage} tab
   */
  async kill(tab) {
    this.forget(tab)
    await crash(tab.page)
    await tab.page.close().catch(() => undefined)
  }
}

/**
 * Ends a page's renderer.
 * @param {import('playwright-core').Page} page
 */
export async function crash(page) {
  const session = await page.context().newCDPSession(page)
  const crashed = page.waitForEvent('crash')
  // The answer never comes.
  session.send('Page.crash').catch(() => undefined)
  await crashed
}
