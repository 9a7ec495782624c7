// @ts-check
/** Where pages can't agree which of them leads, each is by itself: a chat opens all the same, and nothing is lost. */

import assert from 'node:assert/strict'
import { after, before } from 'node:test'

import { newPage, newProfile } from './harness/chromium.mjs'
import { Front } from './harness/front.mjs'
import { assertWhole } from './harness/log.mjs'
import { Relay } from './harness/relay.mjs'
import { Scene, scenario } from './harness/scene.mjs'
import { SdkPage } from './harness/sdk.mjs'
import { post, texts, told } from './harness/traffic.mjs'
import { until } from './harness/wait.mjs'

const ground = new Scene()
/** @type {Relay} */
let relay
/** @type {Front} */
let front

before(async () => {
  // Pages of an opaque origin say that it is "null".
  relay = await Relay.start(ground, { HONGYAN_ALLOWED_ORIGINS: 'null' })
  front = await Front.open(ground, () => relay.port)
})

after(async () => {
  await ground.end()
  ground.check()
})

/** @type {[string, string, () => void][]} */
const BROKEN = [
  ['are no Web Locks', 'lockless', () => Object.defineProperty(navigator, 'locks', { value: undefined })],
  ['is no BroadcastChannel', 'deaf', () => Reflect.deleteProperty(window, 'BroadcastChannel')],
  ['are only Web Locks that throw', 'thrown', () => {
    LockManager.prototype.request = () => { throw new DOMException('Not here.', 'SecurityError') }
  }],
  ['are only Web Locks that reject', 'rejected', () => {
    LockManager.prototype.request = () => Promise.reject(new DOMException('Not here.', 'SecurityError'))
  }],
  ['are only Web Locks that never answer', 'silent', () => {
    LockManager.prototype.request = () => new Promise(() => {})
  }],
  ['are only Web Locks that reject who would lead', 'unled', () => {
    const request = LockManager.prototype.request
    LockManager.prototype.request = function (/** @type {any[]} */ ...args) {
      if (args[0].includes(' tab ')) return Reflect.apply(request, this, args)
      return new Promise((_, reject) => setTimeout(() => reject(new DOMException('Not here.', 'SecurityError')), 200))
    }
  }],
]

for (const [how, user, breakIt] of BROKEN) {
  scenario(`where there ${how}, each tab connects for itself as the same device`, async (scene) => {
    const profile = await newProfile(scene)
    await profile.addInitScript(breakIt)
    const bob = await SdkPage.open(scene, `${user}-peer`, front.origin)
    const first = await SdkPage.open(scene, user, front.origin, { profile, device: ' 1' })
    await first.online()
    const second = await SdkPage.open(scene, user, front.origin, { profile, device: ' 2' })
    await second.online()
    assert.equal(await first.page.evaluate(() => window.chat.device), await second.page.evaluate(() => window.chat.device), 'the same device')
    assert.deepEqual([(await first.state()).leader, (await second.state()).leader], [true, true])
    await post(bob, user, texts(1, 20))
    await post(first, `${user}-peer`, texts(1, 5, 'a'))
    await post(second, `${user}-peer`, texts(1, 5, 'b'))
    for (const tab of [first, second]) {
      await until('all came to each', async () => (await tab.events('message')).length === 30, { seen: async () => (await tab.events('message')).length })
      assertWhole(await tab.events('message'), 30)
      assert.deepEqual(await told(tab, `${user}-peer`), texts(1, 20))
      assert.equal((await tab.state()).status, 'online', 'neither throws the other out')
    }
    // The newest page has the cache; it holds all when both have gone.
    assert.equal((await second.state()).storage, 'indexeddb')
    await until('the cache has all', async () => (await second.cache())?.messages.length === 30, { seen: async () => (await second.cache())?.messages.length })
    await first.page.close()
    await second.load(front.origin)
    await second.connect()
    await second.online()
    assertWhole(await second.page.evaluate(async (peer) => window.chat.history(await window.chat.direct(peer)), `${user}-peer`), 30)
  })
}

scenario('Web Locks that come late are waited for: one of the tabs leads', async (scene) => {
  const profile = await newProfile(scene)
  await profile.addInitScript(() => {
    const request = LockManager.prototype.request
    LockManager.prototype.request = async function (/** @type {any[]} */ ...args) {
      await new Promise((resolve) => setTimeout(resolve, 500))
      return Reflect.apply(request, this, args)
    }
  })
  const tabs = [await SdkPage.open(scene, 'late', front.origin, { profile, device: ' 1' })]
  tabs.push(await SdkPage.open(scene, 'late', front.origin, { profile, device: ' 2' }))
  for (const tab of tabs) await tab.online()
  await until('one leads', async () => (await Promise.all(tabs.map((tab) => tab.state()))).filter((state) => state.leader).length === 1)
})

scenario('a tab that may not wait for others’ locks shares all the same: they say themselves when they go', async (scene) => {
  const profile = await newProfile(scene)
  await profile.addInitScript(() => {
    const request = LockManager.prototype.request
    /** @type {string | undefined} */
    let own
    LockManager.prototype.request = function (/** @type {any[]} */ ...args) {
      if (args[0].includes(' tab ')) own ??= args[0]
      if (args[0].includes(' tab ') && args[0] !== own) {
        window.kept = { ...window.kept, refused: (window.kept?.refused ?? 0) + 1 }
        return Promise.reject(new DOMException('Not here.', 'SecurityError'))
      }
      return Reflect.apply(request, this, args)
    }
  })
  const bob = await SdkPage.open(scene, 'unwaited-peer', front.origin)
  const tabs = [await SdkPage.open(scene, 'unwaited', front.origin, { profile, device: ' 1' })]
  tabs.push(await SdkPage.open(scene, 'unwaited', front.origin, { profile, device: ' 2' }))
  for (const tab of tabs) await tab.online()
  const [leader, follower] = tabs
  assert.ok(leader && follower)
  await until('a lock was refused', async () => Number(await leader.page.evaluate(() => window.kept.refused)) > 0)
  await post(bob, 'unwaited', texts(1, 5))
  await post(follower, 'unwaited-peer', texts(1, 5, 'b'))
  for (const tab of tabs) await until('all came to each', async () => (await tab.events('message')).length === 10)
  assert.deepEqual([(await leader.state()).leader, (await follower.state()).leader], [true, false], 'neither went alone')
  await leader.page.close({ runBeforeUnload: false })
  await until('the other leads', async () => (await follower.state()).leader)
  await post(bob, 'unwaited', texts(6, 6))
  await until('and hears', async () => (await follower.events('message')).length === 11)
  assertWhole(await follower.events('message'), 11)
})

scenario('a page of an opaque origin, which may have neither locks nor a cache, chats from memory', async (scene) => {
  // What the test answers itself below is from nowhere to Chromium, which asks before it may reach this machine.
  const profile = await newProfile(scene, { permissions: ['local-network-access'] })
  const page = await newPage(scene, profile, 'sandboxed')
  // As in a frame with `sandbox="allow-scripts"`: to its own server this page is a stranger.
  await page.route(`${front.origin}/**`, async (route) => {
    const response = await route.fetch()
    /** @type {Record<string, string>} */
    const headers = { ...response.headers(), 'access-control-allow-origin': '*' }
    if (route.request().isNavigationRequest()) headers['content-security-policy'] = 'sandbox allow-scripts'
    await route.fulfill({ response, headers })
  })
  const alice = new SdkPage(page, 'sandboxed')
  await alice.load(front.origin)
  assert.equal(await page.evaluate(() => window.origin), 'null')
  assert.equal(await page.evaluate(() => navigator.locks.request('any', () => 'held').catch((error) => error.name)), 'SecurityError')
  await alice.connect()
  await alice.online()
  assert.deepEqual([(await alice.state()).leader, (await alice.state()).storage], [true, 'memory'])
  const bob = await SdkPage.open(scene, 'sandboxed-peer', front.origin)
  await post(bob, 'sandboxed', texts(1, 3))
  await until('all came', async () => (await told(alice, 'sandboxed-peer')).length === 3)
  await post(alice, 'sandboxed-peer', texts(4, 4))
  await until('it answers', async () => (await told(bob, 'sandboxed')).length === 1)
})
