// @ts-check
/** Tabs that Chromium itself hides and freezes, and pages that it keeps for going back. */

import assert from 'node:assert/strict'

import { Devtools } from './harness/devtools.mjs'
import { Front } from './harness/front.mjs'
import { Relay } from './harness/relay.mjs'
import { scenario } from './harness/scene.mjs'
import { SdkPage } from './harness/sdk.mjs'
import { until } from './harness/wait.mjs'

/** @param {import('./harness/scene.mjs').Scene} scene */
async function world(scene) {
  const relay = await Relay.start(scene)
  const front = await Front.open(scene, () => relay.port)
  return { relay, front, browser: await Devtools.launch(scene) }
}

/** @param {number} first @param {number} last */
const texts = (first, last) => Array.from({ length: last - first + 1 }, (_, index) => `m${first + index}`)

/** @param {SdkPage} bob @param {string} peer @param {string[]} list */
function send(bob, peer, list) {
  return bob.page.evaluate(async ({ peer, list }) => {
    const conversation = await window.chat.direct(peer)
    for (const text of list) await window.chat.send(conversation, { text })
  }, { peer, list })
}

/** @param {SdkPage<import('./harness/sdk.mjs').AnyPage>} page */
async function told(page) {
  return (await page.events('message')).map((message) => message.body.text)
}

/**
 * What the watcher was told of a user, one after the other.
 * @param {SdkPage} watcher
 */
async function seen(watcher) {
  return (await watcher.events('presence')).map(({ status, cause }) => (cause === undefined ? status : `${status} ${cause}`))
}

scenario('a hidden page is away and still gets everything; shown again it is online', async (scene) => {
  const { front, browser } = await world(scene)
  const bob = await SdkPage.open(scene, 'bob', front.origin)
  const { tab, page: alice } = await browser.openSdk('alice', front.origin)
  await send(bob, 'alice', texts(1, 1))
  await bob.page.evaluate(() => window.chat.presence.watch(['alice']))
  await browser.openTab('about:blank')
  await until('alice is away', async () => (await seen(bob)).at(-1) === 'away background', { seen: () => seen(bob) })
  await send(bob, 'alice', texts(2, 30))
  await until('it came', async () => (await told(alice)).length === 30)
  await tab.show()
  await until('alice is online', async () => (await seen(bob)).at(-1) === 'online', { seen: () => seen(bob) })
  assert.deepEqual(await seen(bob), ['away background', 'online'])
  assert.deepEqual(await told(alice), texts(1, 30))
})

scenario('a frozen page comes back with what it missed', async (scene) => {
  const { front, browser } = await world(scene)
  const bob = await SdkPage.open(scene, 'bob', front.origin)
  const { tab, page: alice } = await browser.openSdk('alice', front.origin)
  await send(bob, 'alice', texts(1, 5))
  await until('the first five came', async () => (await told(alice)).length === 5)
  await browser.openTab('about:blank')
  await tab.send('Page.setWebLifecycleState', { state: 'frozen' })
  await bob.page.evaluate(() => window.chat.presence.watch(['alice']))
  await until('nobody is there', async () => (await seen(bob)).at(-1)?.startsWith('offline'), { seen: () => seen(bob) })
  await send(bob, 'alice', texts(6, 40))
  assert.equal((await told(alice)).length, 5)
  await tab.send('Page.setWebLifecycleState', { state: 'active' })
  await until('the rest came', async () => (await told(alice)).length === 40, { seen: () => told(alice) })
  assert.deepEqual(await told(alice), texts(1, 40))
  assert.equal((await alice.events('gap')).length, 0)
})

scenario('of two tabs the frozen one hands over, and comes back with what the other was told meanwhile', async (scene) => {
  const { front, browser } = await world(scene)
  const bob = await SdkPage.open(scene, 'bob', front.origin)
  const { tab, page: first } = await browser.openSdk('alice', front.origin)
  await send(bob, 'alice', texts(1, 5))
  await bob.page.evaluate(() => window.chat.presence.watch(['alice']))
  const { page: second } = await browser.openSdk('alice', front.origin)
  assert.deepEqual([(await first.state()).leader, (await second.state()).leader], [true, false])
  await tab.send('Page.setWebLifecycleState', { state: 'frozen' })
  await until('the other leads', async () => {
    const state = await second.state()
    return state.leader && state.status === 'online'
  }, { seen: () => second.state() })
  await send(bob, 'alice', texts(6, 40))
  await until('the other was told all that came since', async () => (await told(second)).length === 35, { seen: () => told(second) })
  await tab.send('Page.setWebLifecycleState', { state: 'active' })
  await until('the first was told the rest', async () => (await told(first)).length === 40, { seen: () => told(first) })
  assert.deepEqual(await told(first), texts(1, 40))
  assert.deepEqual(await told(second), texts(6, 40))
  for (const page of [first, second]) assert.equal((await page.events('gap')).length, 0)
  assert.deepEqual([(await first.state()).leader, (await second.state()).leader], [false, true])
  assert.ok((await seen(bob)).every((state) => !state.startsWith('offline')), `never offline: ${await seen(bob)}`)
})

scenario('a frozen page that was told what never reached the disk is told a gap when it is back', async (scene) => {
  const { front, browser } = await world(scene)
  const bob = await SdkPage.open(scene, 'bob', front.origin)
  const { tab, page: first } = await browser.openSdk('alice', front.origin)
  await send(bob, 'alice', texts(1, 5))
  await until('the first five came', async () => (await told(first)).length === 5)
  const { page: second } = await browser.openSdk('alice', front.origin)
  await tab.evaluate(() => {
    IDBObjectStore.prototype.put = () => {
      throw new DOMException('The disk is full.', 'QuotaExceededError')
    }
  })
  await send(bob, 'alice', texts(6, 7))
  for (const page of [first, second]) await until('two more came', async () => (await told(page)).at(-1) === 'm7', { seen: () => told(page) })
  assert.equal((await first.state()).storage, 'memory')
  await tab.send('Page.setWebLifecycleState', { state: 'frozen' })
  await until('the other leads', async () => {
    const state = await second.state()
    return state.leader && state.status === 'online' && state.storage === 'indexeddb'
  }, { seen: () => second.state() })
  // More saves than the frozen page was told of.
  for (let n = 8; n <= 16; n++) {
    await send(bob, 'alice', texts(n, n))
    await until('it came', async () => (await told(second)).at(-1) === `m${n}`, { seen: () => told(second) })
  }
  assert.deepEqual(await told(second), [...texts(6, 7), ...texts(6, 16)], 'what was in memory only came anew, behind the gap')
  await tab.send('Page.setWebLifecycleState', { state: 'active' })
  for (const page of [first, second]) await until('it is told a gap', async () => (await page.events('gap')).length === 1)
  await send(bob, 'alice', ['m17'])
  for (const page of [first, second]) await until('the last one came', async () => (await told(page)).at(-1) === 'm17', { seen: () => told(page) })
  assert.deepEqual(await told(first), [...texts(1, 7), 'm17'])
  for (const page of [first, second]) assert.equal((await page.events('gap')).length, 1)
})

scenario('a frozen page whose cache was deleted is told a gap when it is back', async (scene) => {
  const { front, browser } = await world(scene)
  const bob = await SdkPage.open(scene, 'bob', front.origin)
  const { tab, page: first } = await browser.openSdk('alice', front.origin)
  await send(bob, 'alice', texts(1, 5))
  await until('the first five came', async () => (await told(first)).length === 5)
  const second = new SdkPage(await browser.openTab('about:blank'), 'alice')
  await second.load(front.origin)
  await tab.send('Page.setWebLifecycleState', { state: 'frozen' })
  await second.page.evaluate(async () => {
    const name = (await indexedDB.databases()).map((one) => one.name ?? '').find((one) => one.startsWith('hongyan:'))
    await new Promise((resolve, reject) => {
      const deleting = indexedDB.deleteDatabase(name ?? '')
      deleting.onsuccess = resolve
      deleting.onerror = reject
    })
    // It is not deleted in the moment in which it is made.
    const now = Date.now
    Date.now = () => now() + 60_000
  })
  await second.connect()
  await second.online()
  // More saves than the frozen page was told of.
  for (let n = 6; n <= 14; n++) {
    await send(bob, 'alice', texts(n, n))
    await until('it came', async () => (await told(second)).at(-1) === `m${n}`, { seen: () => told(second) })
  }
  await tab.send('Page.setWebLifecycleState', { state: 'active' })
  await until('it is told a gap', async () => (await first.events('gap')).length === 1, { seen: () => told(first) })
  await send(bob, 'alice', ['m15'])
  for (const page of [first, second]) await until('the last one came', async () => (await told(page)).at(-1) === 'm15', { seen: () => told(page) })
  assert.deepEqual(await told(first), [...texts(1, 5), 'm15'])
  assert.deepEqual([(await first.state()).leader, (await second.state()).leader], [false, true])
})

for (const others of [0, 1]) {
  scenario(`a page out of the back/forward cache goes on where it was, beside ${others} others`, async (scene) => {
    const { front, browser } = await world(scene)
    const bob = await SdkPage.open(scene, 'bob', front.origin)
    for (let n = 0; n < others; n++) await browser.openSdk('alice', front.origin)
    const { tab, page: alice } = await browser.openSdk('alice', front.origin)
    await tab.evaluate(() => {
      window.kept.shown = []
      addEventListener('pageshow', (event) => window.kept.shown.push(event.persisted))
    })
    await send(bob, 'alice', texts(1, 5))
    await until('the first five came', async () => (await told(alice)).length === 5)
    await bob.page.evaluate(() => window.chat.presence.watch(['alice']))
    await tab.goto(`${front.origin}/sdk/?elsewhere`)
    await send(bob, 'alice', texts(6, 20))
    await tab.evaluate(() => history.back())
    await until('it is the same page, not another', () => tab.evaluate(() => window.kept?.shown?.[0] === true), { seen: () => tab.evaluate(() => [location.href, window.kept?.shown]) })
    await until('the rest came', async () => (await told(alice)).length === 20, { seen: () => told(alice) })
    assert.deepEqual(await told(alice), texts(1, 20))
    await until('alice is there', async () => {
      const last = (await seen(bob)).at(-1)
      return last === undefined || last === 'online'
    }, { seen: () => seen(bob) })
    if (others > 0) assert.ok((await seen(bob)).every((state) => !state.startsWith('offline') && !state.startsWith('leaving')), `${await seen(bob)}`)
  })
}

scenario('a page that is shown again goes on, though the turn that it waited for was lost', async (scene) => {
  const relay = await Relay.start(scene)
  const front = await Front.open(scene, () => relay.port)
  const bob = await SdkPage.open(scene, 'bob', front.origin)
  const alice = await SdkPage.open(scene, 'alice', front.origin)
  await alice.online()
  // The page takes so long with each message that the next ones wait for another turn, and that never comes.
  await alice.page.evaluate(() => {
    const post = MessagePort.prototype.postMessage
    window.kept.lost = 0
    MessagePort.prototype.postMessage = function (/** @type {any[]} */ ...args) {
      if (window.kept.lost === 'found') Reflect.apply(post, this, args)
      else window.kept.lost += 1
    }
    window.chat.on('message', () => {
      const end = performance.now() + 15
      while (performance.now() < end);
    })
  })
  let sent = 0
  await until('a turn is lost', async () => {
    // What comes while the page does something else is told together.
    const busy = alice.page.evaluate(() => {
      const end = performance.now() + 1_500
      while (performance.now() < end);
    })
    await send(bob, 'alice', texts(sent + 1, (sent += 40)))
    await busy
    return alice.page.evaluate(() => window.kept.lost > 0)
  })
  assert.ok((await told(alice)).length < sent)
  await alice.page.evaluate(() => {
    window.kept.lost = 'found'
    dispatchEvent(new PageTransitionEvent('pageshow'))
  })
  await until('all came', async () => (await told(alice)).length === sent, { seen: () => told(alice) })
  assert.deepEqual(await told(alice), texts(1, sent))
})
