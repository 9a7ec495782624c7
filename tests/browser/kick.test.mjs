// @ts-check
/**
 * Sessions that are ended from elsewhere: by the policy, by another device of one's own, by the app's server. Each end
 * says what it was, all tabs of the device learn it, and nothing comes back by itself.
 */

import assert from 'node:assert/strict'
import { after, before } from 'node:test'

import { Front } from './harness/front.mjs'
import { Relay } from './harness/relay.mjs'
import { Scene, scenario } from './harness/scene.mjs'
import { SdkPage } from './harness/sdk.mjs'
import { TabGroup } from './harness/tabs.mjs'
import { until } from './harness/wait.mjs'

/** Opens the API of these relays, and nothing else anywhere. */
const KEY = 'b8nVqYx3TzRk7WpLd2FhGm9CsJtEu4Aa6BvNcMiQ'
/** Longer than a page that comes back by itself waits before its first attempt. */
const STAYS_MS = 3_000

const ground = new Scene()
/** @type {Relay} */
let relay
/** @type {Front} */
let front

before(async () => {
  relay = await Relay.start(ground, { HONGYAN_API_KEYS: `app:${KEY}` })
  front = await Front.open(ground, () => relay.port)
})

after(async () => {
  await ground.end()
  ground.check()
})

/**
 * As the app's own server asks.
 * @param {string} method
 * @param {string} path
 */
async function api(method, path) {
  const response = await fetch(`${relay.origin}/api/v1${path}`, { method, headers: { authorization: `Bearer ${KEY}` } })
  assert.equal(response.status, 200, await response.clone().text())
  return response.json()
}

/** @param {SdkPage} page */
const deviceOf = (page) => page.page.evaluate(() => window.chat.device)

/** @param {SdkPage} page */
const devices = (page) => page.page.evaluate(() => window.chat.devices.list())

/**
 * Each of these tabs stops, says why, and answers what it is asked with that.
 * @param {SdkPage[]} tabs
 * @param {string} code
 */
async function stoppedWith(tabs, code) {
  for (const tab of tabs) {
    const state = await until(`it stops with ${code}`, async () => {
      const state = await tab.state()
      return state.status === 'stopped' && state
    }, { seen: () => tab.state() })
    assert.deepEqual([state.reason?.code, state.reason?.class, state.retryAt], [code, 'stop', undefined])
    const asked = await tab.page.evaluate(() => window.chat.devices.list().then(() => 'answered', (error) => `${error.class} ${error.code}`))
    assert.equal(asked, `stop ${code}`)
  }
}

/**
 * Counts the sockets that pages open from now on.
 * @param {SdkPage[]} tabs
 */
function sockets(tabs) {
  let count = 0
  for (const tab of tabs) tab.page.on('websocket', () => void count++)
  return () => count
}

/**
 * Two go on talking for a while; nobody else says anything.
 * @param {SdkPage} one
 * @param {string} peer
 */
async function talkOn(one, peer) {
  const end = Date.now() + STAYS_MS
  await until('they talked for a while', async () => {
    await one.page.evaluate(async (peer) => window.chat.send(await window.chat.direct(peer), { text: 'still here' }), peer)
    return Date.now() > end
  })
}

/**
 * As a person who presses "connect": the chat that ended is let go of, and another one is opened in the same page.
 * @param {SdkPage} tab
 */
async function connectAnew(tab) {
  await tab.page.evaluate(() => window.chat.close())
  await tab.connect()
  await tab.online()
}

scenario('one browser at a time: the last one stays, the other one’s tabs all stop, and nobody comes back by himself', async (scene) => {
  const strict = await Relay.start(scene, { HONGYAN_DEVICES_WEB_MAX: '1' })
  const own = await Front.open(scene, () => strict.port)
  const bob = await SdkPage.open(scene, 'bob', own.origin)
  const first = await TabGroup.open(scene, 'alice', own.origin, 3)
  await first.leader()
  const ofFirst = sockets(first.tabs)
  const device = await deviceOf(/** @type {SdkPage} */ (first.tabs[0]))

  const second = await TabGroup.open(scene, 'alice', own.origin, 2)
  await stoppedWith(first.tabs, 'superseded')
  await second.leader()
  await talkOn(bob, 'alice')
  assert.equal(ofFirst(), 0, 'no tab of the first browser dials again')
  await stoppedWith(first.tabs, 'superseded')

  // Pressing "connect" there is another matter, and then it is the other way round, once.
  const ofSecond = sockets(second.tabs)
  const again = /** @type {SdkPage} */ (first.tabs[1])
  await connectAnew(again)
  assert.equal(await deviceOf(again), device, 'it is the same device')
  await stoppedWith(second.tabs, 'superseded')
  await talkOn(bob, 'alice')
  assert.equal(ofSecond(), 0, 'no tab of the second browser dials again')
  assert.equal(ofFirst(), 1, 'one connection was made for one press')
  assert.equal((await again.state()).status, 'online')
  const messages = await until('what was written meanwhile is there', async () => {
    const list = await again.page.evaluate(async () => window.chat.history(await window.chat.direct('bob'), { limit: 100 }))
    return list.length > 0 && list
  })
  assert.ok(messages.every((one, index) => index === 0 || one.seq === (messages[index - 1]?.seq ?? 0) + 1), 'without a gap')
})

scenario('a device is signed out from another one: its tabs stop, nothing stays there, and the next login is a new device', async (scene) => {
  const bob = await SdkPage.open(scene, 'signer-peer', front.origin)
  const here = await SdkPage.open(scene, 'signer', front.origin, { device: ', here' })
  await here.online()
  const lost = await TabGroup.open(scene, 'signer', front.origin, 3)
  const leader = await lost.leader()
  const device = await deviceOf(leader)
  await bob.page.evaluate(async () => window.chat.send(await window.chat.direct('signer'), { text: 'a secret' }))
  await until('the message is in its cache', async () => (await leader.cache())?.messages.length === 1)
  const again = sockets(lost.tabs)

  const before = await until('both are listed', async () => {
    const list = await devices(here)
    return list.length === 2 && list.every((one) => one.status === 'online') && list
  }, { seen: () => devices(here) })
  assert.deepEqual(new Set(before.map((one) => one.device)), new Set([device, await deviceOf(here)]))
  assert.ok(before.every((one) => one.kind === 'web' && one.agent.startsWith('hongyan')))

  await here.page.evaluate((device) => window.chat.devices.signOut(device), device)
  await stoppedWith(lost.tabs, 'logged-out')
  assert.deepEqual((await devices(here)).map((one) => one.device), [await deviceOf(here)], 'it is no device any more')
  await until('its cache is empty', async () => {
    const cache = await leader.cache()
    return cache === undefined || (cache.messages.length === 0 && cache.conversations.length === 0 && cache.outbox.length === 0)
  }, { seen: () => leader.cache() })
  await talkOn(bob, 'signer')
  assert.equal(again(), 0, 'it does not come back by itself')

  const [tab] = lost.tabs
  assert.ok(tab)
  await connectAnew(tab)
  const fresh = await deviceOf(tab)
  assert.notEqual(fresh, device, 'another device')
  assert.deepEqual(new Set((await devices(here)).map((one) => one.device)), new Set([fresh, await deviceOf(here)]))
  for (const other of lost.tabs.slice(1)) assert.equal((await other.state()).status, 'stopped', 'what was signed out stays so')
})

scenario('a device that is not there is signed out when it comes', async (scene) => {
  const here = await SdkPage.open(scene, 'absent', front.origin, { device: ', here' })
  await here.online()
  const lost = await SdkPage.open(scene, 'absent', front.origin, { device: ', lost' })
  await lost.online()
  const device = await deviceOf(lost)
  await here.page.evaluate(async () => window.chat.send(await window.chat.direct('absent-peer'), { text: 'a secret' }))
  await until('the message is in its cache', async () => (await lost.cache())?.messages.length === 1)
  await lost.page.evaluate(() => window.chat.close())
  const gone = await until('it is gone', async () => (await devices(here)).find((one) => one.device === device && one.status === 'offline'))
  assert.ok((gone.seen ?? 0) > 0, 'and it is known since when')

  await here.page.evaluate((device) => window.chat.devices.signOut(device), device)
  await lost.load(front.origin)
  await lost.connect()
  await stoppedWith([lost], 'logged-out')
  await until('its cache is empty', async () => ((await lost.cache())?.messages.length ?? 0) === 0, { seen: () => lost.cache() })
  await connectAnew(lost)
  assert.notEqual(await deviceOf(lost), device, 'another device')
  assert.deepEqual(new Set((await devices(here)).map((one) => one.device)), new Set([await deviceOf(lost), await deviceOf(here)]))
})

scenario('revoked tokens end every device, and a token that is issued later opens again', async (scene) => {
  const phone = await TabGroup.open(scene, 'revoked', front.origin, 2)
  await phone.leader()
  const laptop = await SdkPage.open(scene, 'revoked', front.origin, { device: ', laptop' })
  await laptop.online()
  const bob = await SdkPage.open(scene, 'revoked-peer', front.origin)
  await bob.online()
  const again = sockets([...phone.tabs, laptop])
  const old = await relay.token('revoked')

  const revoked = await api('POST', '/users/revoked/revoke-tokens')
  assert.ok(revoked.iat_min * 1_000 > revoked.revoked_before)
  await stoppedWith([...phone.tabs, laptop], 'token-revoked')
  await talkOn(bob, 'revoked')
  assert.equal(again(), 0, 'nobody comes back by himself')
  assert.equal((await bob.state()).status, 'online', 'others are not concerned')

  const refused = await laptop.page.evaluate(async (token) => {
    await window.chat.close()
    window.chat = await window.hongyan.connect({ user: 'revoked', token })
    while (window.chat.state.status !== 'stopped') await new Promise((resolve) => window.chat.on('state', resolve))
    return window.chat.state.reason?.code
  }, old)
  assert.equal(refused, 'token-revoked', 'a token of before opens nothing')

  await until('a new token may be issued', () => Date.now() >= revoked.iat_min * 1_000)
  await connectAnew(laptop)
  const [tab] = phone.tabs
  assert.ok(tab)
  await connectAnew(tab)
  const list = await until('both are there again', async () => {
    const list = await devices(tab)
    return list.filter((one) => one.status === 'online').length === 2 && list
  }, { seen: () => devices(tab) })
  assert.equal(list.length, 2, 'they are the devices that they were')
})

scenario('who is kicked stops at once, and may connect again', async (scene) => {
  const bob = await SdkPage.open(scene, 'kicked-peer', front.origin)
  const group = await TabGroup.open(scene, 'kicked', front.origin, 3)
  const device = await deviceOf(await group.leader())
  await bob.page.evaluate(async () => {
    await window.chat.send(await window.chat.direct('kicked'), { text: 'hello' })
    window.kept.watch = await window.chat.presence.watch(['kicked'])
  })
  assert.equal((await api('GET', '/presence?user=kicked')).presence[0].status, 'online')
  const again = sockets(group.tabs)

  assert.equal((await api('POST', '/users/kicked/kick')).connections, 1, 'its tabs have one connection')
  await stoppedWith(group.tabs, 'kicked')
  await until('it is seen', async () => (await bob.events('presence')).at(-1)?.status === 'offline', { seen: () => bob.events('presence') })
  assert.equal((await bob.events('presence')).at(-1)?.cause, 'kicked')
  const [presence] = (await api('GET', '/presence?user=kicked')).presence
  assert.deepEqual([presence.status, presence.cause, presence.devices, presence.invisible], ['offline', 'kicked', [], false])
  await talkOn(bob, 'kicked')
  assert.equal(again(), 0, 'it does not come back by itself')

  const [tab] = group.tabs
  assert.ok(tab)
  await connectAnew(tab)
  assert.equal(await deviceOf(tab), device, 'the device that it was')
  assert.deepEqual((await api('GET', '/users/kicked/devices')).devices.map((/** @type {any} */ one) => [one.device, one.status]), [[device, 'online']])
})
