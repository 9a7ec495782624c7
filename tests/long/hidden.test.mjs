// @ts-check
/**
 * A tab that is hidden for eight minutes under Chromium's own throttling: after five, a chain of timers runs once a
 * minute (Chromium 88, "intensive throttling"). Liveness is the relay's, so the connection must stay and everything
 * arrive.
 */

import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'

import { Devtools } from '../browser/harness/devtools.mjs'
import { Front } from '../browser/harness/front.mjs'
import { Proxy } from '../browser/harness/proxy.mjs'
import { Relay } from '../browser/harness/relay.mjs'
import { scenario } from '../browser/harness/scene.mjs'
import { SdkPage } from '../browser/harness/sdk.mjs'
import { until } from '../browser/harness/wait.mjs'

const HIDDEN_MS = 8 * 60_000
const MESSAGE_EVERY_MS = 15_000
/** A timer that comes so late was throttled: unthrottled it comes every second. */
const THROTTLED_MS = 30_000

scenario('a tab that is hidden for eight minutes stays connected, gets every message, and is away', async (scene) => {
  const relay = await Relay.start(scene)
  const proxy = await Proxy.open(scene, () => relay.port)
  const front = await Front.open(scene, () => relay.port)
  const own = await Front.open(scene, () => proxy.port)
  const bob = await SdkPage.open(scene, 'bob', front.origin)
  const browser = await Devtools.launch(scene)
  const { tab, page: alice } = await browser.openSdk('alice', own.origin)
  await bob.page.evaluate(async () => {
    window.kept.conversation = await window.chat.direct('alice')
    await window.chat.send(window.kept.conversation, { text: 'm0' })
    await window.chat.presence.watch(['alice'])
  })
  await tab.evaluate(() => {
    // What an app's own timers would see.
    window.kept.ticks = [Date.now()]
    const tick = () => {
      window.kept.ticks.push(Date.now())
      setTimeout(tick, 1_000)
    }
    setTimeout(tick, 1_000)
  })
  const states = (await alice.events('state')).length
  await browser.openTab('about:blank')
  const hidden = Date.now()
  assert.equal(await tab.evaluate(() => document.visibilityState), 'hidden')

  /** @type {number[]} */
  const delays = []
  let sent = 1
  while (Date.now() - hidden < HIDDEN_MS) {
    await delay(MESSAGE_EVERY_MS)
    const at = Date.now()
    await bob.page.evaluate((text) => window.chat.send(window.kept.conversation, { text }), `m${sent}`)
    sent += 1
    await until('it came', async () => (await alice.events('message')).length === sent, { seen: () => alice.events('message') })
    const arrived = await tab.evaluate(() => window.kept.events.filter((/** @type {any} */ event) => event[0] === 'message').at(-1)[2])
    delays.push(arrived - at)
  }

  const ticks = await tab.evaluate(() => window.kept.ticks)
  const gaps = ticks.slice(1).map((/** @type {number} */ tick, /** @type {number} */ index) => tick - (ticks[index] ?? tick))
  const seen = (await bob.events('presence')).map(({ status, cause }) => [status, cause])
  const after = (await alice.events('state')).slice(states)
  console.log(`hidden for ${((Date.now() - hidden) / 1000).toFixed(0)} s; the page's own timer of 1 s came at most ${(Math.max(...gaps) / 1000).toFixed(1)} s late`)
  console.log(`${sent} messages, each once; sent to shown: median ${delays.toSorted((a, b) => a - b)[delays.length >> 1]} ms, longest ${Math.max(...delays)} ms`)
  console.log(`connections of the tab: ${proxy.links}; changes of its state: ${after.length}; presence as the watcher saw it: ${JSON.stringify(seen)}`)
  assert.ok(Math.max(...gaps) >= THROTTLED_MS, 'Chromium throttled the tab: without that this proves nothing')
  assert.deepEqual(after, [], 'the connection never changed')
  assert.equal(proxy.links, 1)
  assert.deepEqual((await alice.events('message')).map((message) => message.body.text), Array.from({ length: sent }, (_, index) => `m${index}`))
  assert.deepEqual(seen, [['away', 'background']])
  await tab.show()
  await until('it is seen online', async () => (await bob.events('presence')).at(-1)?.status === 'online')
}, { timeout: HIDDEN_MS + 120_000 })
