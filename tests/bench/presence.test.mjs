// @ts-check
/**
 * How soon others see that somebody came or went, and how soon another tab leads: real Chromium, the release relay, a
 * watcher in a browser of her own. It asserts nothing of time; each figure is a line of JSON for `npm run bench`.
 */

import assert from 'node:assert/strict'

import { Devtools, Tab } from '../browser/harness/devtools.mjs'
import { Front } from '../browser/harness/front.mjs'
import { Proxy } from '../browser/harness/proxy.mjs'
import { Relay } from '../browser/harness/relay.mjs'
import { scenario } from '../browser/harness/scene.mjs'
import { SdkPage } from '../browser/harness/sdk.mjs'
import { until } from '../browser/harness/wait.mjs'

const ROUNDS = Number(process.env.HONGYAN_BENCH_ROUNDS ?? 100)
const TIME = { timeout: 1_200_000 }

/**
 * Prints a figure in its three numbers, beside its bound.
 * @param {string} figure
 * @param {number[]} samples milliseconds
 * @param {{ p99?: number, max?: number }} [bounds] of DESIGN.md or the issue
 */
function tell(figure, samples, bounds = {}) {
  const sorted = samples.toSorted((a, b) => a - b)
  const at = (/** @type {number} */ share) => /** @type {number} */ (sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)])
  for (const [name, value] of /** @type {const} */ ([['p50', at(0.5)], ['p99', at(0.99)], ['max', at(1)]])) {
    const bound = name === 'p50' ? undefined : bounds[name]
    const beside = bound === undefined ? {} : { beside: { what: 'allowed', value: bound } }
    console.log(JSON.stringify({ figure: `${figure}, ${name} of ${sorted.length}`, value: Math.round(value), unit: 'ms', ...beside }))
  }
}

/**
 * A watcher in a browser of her own.
 * @param {import('../browser/harness/scene.mjs').Scene} scene
 * @param {string} user
 * @param {string[]} users
 * @param {string} origin
 */
async function watcherOf(scene, user, users, origin) {
  const { page } = await (await Devtools.launch(scene)).openSdk(user, origin)
  await page.page.evaluate(async (users) => {
    for (const one of users) await window.chat.send(await window.chat.direct(one), { text: 'hello' })
    await window.chat.presence.watch(users)
  }, users)
  return page
}

/**
 * When the watcher was told this of a user, at or after a moment.
 * @param {SdkPage<any>} watcher
 * @param {string} user
 * @param {string[]} statuses one of these
 * @param {number} since
 */
async function told(watcher, user, statuses, since) {
  const at = await until(`${user} is ${statuses}`, () => watcher.page.evaluate(
    (/** @type {{ user: string, statuses: string[], since: number }} */ { user, statuses, since }) => window.kept.events.find((/** @type {any} */ [name, payload, at]) => name === 'presence' && payload.user === user && statuses.includes(payload.status) && at >= since)?.[2],
    { user, statuses, since },
  ), { within: 60_000 })
  return /** @type {number} */ (at)
}

/**
 * Opens the demo and waits until it is seen.
 * @param {Devtools} browser
 * @param {SdkPage<any>} watcher
 * @param {string} user
 * @param {string} origin
 */
async function comes(browser, watcher, user, origin) {
  const began = Date.now()
  const tab = await browser.openTab(`${origin}/demo/?user=${user}&debug`)
  await told(watcher, user, ['online'], began)
  return tab
}

scenario('bench: a tab of the demo is closed; its renderer is killed', async (scene) => {
  const relay = await Relay.start(scene)
  const watcher = await watcherOf(scene, 'bob', ['alice'], (await Front.open(scene, () => relay.port)).origin)
  const browser = await Devtools.launch(scene)
  const [leaving, offline, lost] = [/** @type {number[]} */ ([]), /** @type {number[]} */ ([]), /** @type {number[]} */ ([])]
  for (let round = 0; round < ROUNDS; round++) {
    const tab = await comes(browser, watcher, 'alice', relay.origin)
    const began = Date.now()
    await tab.close()
    leaving.push((await told(watcher, 'alice', ['leaving'], began)) - began)
    offline.push((await told(watcher, 'alice', ['offline'], began)) - began)
    const other = await comes(browser, watcher, 'alice', relay.origin)
    const crashed = Date.now()
    other.send('Page.crash').catch(() => undefined)
    lost.push((await told(watcher, 'alice', ['offline'], crashed)) - crashed)
    await other.close()
  }
  tell('presence: tab closed to leaving', leaving, { p99: 250 })
  tell('presence: tab closed to offline', offline, { p99: 1_000 })
  tell('presence: renderer killed to offline', lost, { max: 1_000 })
}, TIME)

/**
 * Chromium delays sockets of one process that dial together, and a page that is hidden for a minute waits to be seen
 * before it dials: so each of these users has a window of her own.
 */
const TABS = 20

scenario('bench: the network goes silent, and the relay is killed', async (scene) => {
  scene.expect(/./)
  const relay = await Relay.start(scene)
  const proxy = await Proxy.open(scene, () => relay.port)
  const [door, own] = [await Front.open(scene, () => relay.port), await Front.open(scene, () => proxy.port)]
  const users = Array.from({ length: Math.min(TABS, ROUNDS) }, (_, index) => `user${index}`)
  const watcher = await watcherOf(scene, 'bob', users, door.origin)
  const browser = await Devtools.launch(scene)
  for (const user of users) await browser.openSdk(user, own.origin, {}, true)
  const samples = { silent: /** @type {number[]} */ ([]), healed: /** @type {number[]} */ ([]), restarted: /** @type {number[]} */ ([]) }
  const there = ['online', 'away']
  const began = Date.now() - 60_000
  await all(watcher, users, there, began)
  for (let round = 0; round < Math.ceil(ROUNDS / users.length); round++) {
    const cut = Date.now()
    proxy.cut()
    samples.silent.push(...(await all(watcher, users, ['offline'], cut)))
    const healed = Date.now()
    proxy.heal()
    samples.healed.push(...(await all(watcher, users, there, healed)))
    await relay.kill()
    const restarted = Date.now()
    await relay.start()
    samples.restarted.push(...(await all(watcher, users, there, restarted)))
    const falsely = await watcher.page.evaluate((since) => window.kept.events.filter((/** @type {any} */ [name, payload, at]) => name === 'presence' && payload.status === 'offline' && at >= since).length, restarted)
    assert.equal(falsely, 0, 'nobody who came back was called offline')
  }
  tell('presence: network silent to offline', samples.silent, { max: 15_000 })
  tell('presence: network healed to there again', samples.healed, { max: 2_000 })
  tell('presence: relay killed and restarted to there again', samples.restarted, { max: 30_000 })
}, TIME)

/** @param {SdkPage<any>} watcher @param {string[]} users @param {string[]} statuses @param {number} since */
async function all(watcher, users, statuses, since) {
  const samples = []
  for (const user of users) samples.push((await told(watcher, user, statuses, since)) - since)
  return samples
}

/**
 * When a tab was told of a state like this, at or after a moment.
 * @param {Tab[]} tabs
 * @param {boolean} online
 * @param {number} since
 */
async function leads(tabs, online, since) {
  const at = await until('another leads', async () => {
    const times = await Promise.all(tabs.map((tab) => tab.evaluate(
      ({ online, since }) => window.kept.events.find((/** @type {any} */ [name, payload, at]) => name === 'state' && payload.leader && (!online || payload.status === 'online') && at >= since)?.[2],
      { online, since },
    )))
    return times.find((time) => time !== undefined)
  })
  return /** @type {number} */ (at)
}

scenario('bench: the leader of five tabs is closed, and crashes', async (scene) => {
  const relay = await Relay.start(scene)
  const front = await Front.open(scene, () => relay.port)
  const browser = await Devtools.launch(scene)
  /** @type {number[]} */
  const opening = []
  /** @type {Tab[]} */
  let tabs = []
  const open = async () => {
    const tab = await browser.openTab('about:blank')
    const page = new SdkPage(tab, 'alice')
    await page.load(front.origin)
    const began = await tab.evaluate(() => performance.now())
    await page.connect()
    opening.push((await tab.evaluate(() => performance.now())) - began)
    await page.online()
    tabs.push(tab)
  }
  for (let n = 0; n < 5; n++) await open()
  const first = opening.shift() ?? 0
  const samples = { closed: { leads: /** @type {number[]} */ ([]), online: /** @type {number[]} */ ([]) }, killed: { leads: /** @type {number[]} */ ([]), online: /** @type {number[]} */ ([]) } }
  for (let round = 0; round < 2 * ROUNDS; round++) {
    const states = await Promise.all(tabs.map((tab) => tab.evaluate(() => window.chat.state.leader)))
    const leader = /** @type {Tab} */ (tabs[states.indexOf(true)])
    tabs = tabs.filter((tab) => tab !== leader)
    const how = round % 2 === 0 ? samples.closed : samples.killed
    const began = Date.now()
    if (round % 2 === 0) await leader.close()
    else leader.send('Page.crash').catch(() => undefined)
    how.leads.push((await leads(tabs, false, began)) - began)
    how.online.push((await leads(tabs, true, began)) - began)
    if (round % 2 === 1) await leader.close()
    await open()
  }
  tell('tabs: leader closed to another leads', samples.closed.leads, { p99: 200 })
  tell('tabs: leader closed to connected again', samples.closed.online)
  tell('tabs: leader killed to another leads', samples.killed.leads, { p99: 200 })
  tell('tabs: leader killed to connected again', samples.killed.online)
  tell('tabs: connect in the first tab', [first])
  tell('tabs: connect in a further tab', opening)
}, TIME)
