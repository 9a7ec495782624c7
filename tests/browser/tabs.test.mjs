// @ts-check
/** The tabs of one device share one connection and one cache; one leads, and whichever ends, nothing is lost. */

import assert from 'node:assert/strict'
import { after, before } from 'node:test'

import { Front } from './harness/front.mjs'
import { assertWhole } from './harness/log.mjs'
import { Proxy } from './harness/proxy.mjs'
import { Relay } from './harness/relay.mjs'
import { Scene, scenario } from './harness/scene.mjs'
import { SdkPage } from './harness/sdk.mjs'
import { TabGroup } from './harness/tabs.mjs'
import { post, texts, told } from './harness/traffic.mjs'
import { until } from './harness/wait.mjs'

/** The version of the channel that tabs of this version speak on. */
const VERSION = 5

const ground = new Scene()
/** @type {Relay} */
let relay
/** @type {Front} */
let front

before(async () => {
  relay = await Relay.start(ground)
  front = await Front.open(ground, () => relay.port)
})

after(async () => {
  await ground.end()
  ground.check()
})

scenario('five tabs: one connection, one writer, the same in each, and sends from any', async (scene) => {
  const proxy = await Proxy.open(scene, () => relay.port)
  const own = await Front.open(scene, () => proxy.port)
  const group = await TabGroup.open(scene, 'alice', own.origin, 5)
  const leader = await group.leader()
  assert.equal(leader, group.tabs[0], 'who was first leads')
  assert.equal(new Set(await Promise.all(group.tabs.map((tab) => tab.page.evaluate(() => window.chat.device)))).size, 1, 'one device')
  const sockets = async () => (await Promise.all(group.tabs.map((tab) => tab.page.evaluate(() => performance.getEntriesByType('resource').length)))).length
  assert.equal(await sockets(), 5)
  await until('one connection to the relay', () => proxy.links === 1, { seen: () => proxy.links })

  const bob = await SdkPage.open(scene, 'bob', front.origin)
  await post(bob, 'alice', texts(1, 200))
  for (const tab of group.tabs) {
    await until('all 200 came', async () => (await told(tab, 'bob')).length >= 200, { seen: async () => (await told(tab, 'bob')).length })
    assert.deepEqual(await told(tab, 'bob'), texts(1, 200), 'each once, in order')
  }
  assert.equal(proxy.links, 1)

  // Any tab sends; every tab is told, and shows it while it is being sent.
  for (const [index, tab] of group.tabs.entries()) await post(tab, 'bob', [`from ${index}`])
  for (const tab of group.tabs) {
    await until('all five are told', async () => (await told(tab, 'alice')).length === 5, { seen: () => told(tab, 'alice') })
    const sending = (await tab.events('outbox')).filter((message) => message.status === 'sending')
    assert.equal(new Set(sending.map((message) => message.key)).size, 5, 'every tab saw all five being sent')
  }
  const seqs = await Promise.all(group.tabs.map((tab) => tab.page.evaluate(async () => Promise.all(window.kept.sent))))
  assert.deepEqual(seqs.flat().sort((a, b) => a - b), [201, 202, 203, 204, 205])

  // What one tab reads is read in all, and all show the same list.
  await group.tabs[3]?.page.evaluate(async () => window.chat.markRead(await window.chat.direct('bob')))
  for (const tab of group.tabs) {
    await until('nothing is unread', async () => (await tab.page.evaluate(() => window.chat.conversations()))[0]?.unread === 0)
  }
  const lists = await Promise.all(group.tabs.map((tab) => tab.page.evaluate(async () => JSON.stringify([await window.chat.conversations(), await window.chat.history(await window.chat.direct('bob'), { limit: 100 })]))))
  assert.equal(new Set(lists).size, 1, 'the same list and history in each tab')
})

/**
 * Traffic both ways while leaders end, then everything is counted.
 * @param {Scene} scene
 * @param {string} user
 * @param {number} rounds
 * @param {(group: TabGroup, leader: SdkPage) => Promise<void>} end
 */
async function leadersEnd(scene, user, rounds, end) {
  const peer = `${user}-peer`
  const group = await TabGroup.open(scene, user, front.origin, 5)
  const bob = await SdkPage.open(scene, peer, front.origin)
  let [written, sent] = [0, 0]
  /** What each tab must have been told: everything from the first that it saw. @type {Map<SdkPage, number>} */
  const since = new Map(group.tabs.map((tab) => [tab, 1]))
  for (let round = 0; round < rounds; round++) {
    const leader = await group.leader()
    // A tab that stays, the leader itself and the peer write while it ends.
    const other = group.tabs.find((tab) => tab !== leader)
    assert.ok(other)
    await Promise.all([
      post(bob, user, texts(written + 1, written + 8)),
      post(other, peer, texts(sent + 1, sent + 3, 's')),
    ])
    ;[written, sent] = [written + 8, sent + 3]
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 60))
    await end(group, leader)
    if (group.tabs.length < 5) {
      const tab = await group.openTab()
      // What came before it was there is in the history, not in its events.
      since.set(tab, -1)
    }
  }
  await group.leader()
  await post(bob, user, texts(written + 1, written + 8))
  written += 8
  for (const tab of group.tabs) {
    await until('the last message came', async () => (await told(tab, peer)).at(-1) === `m${written}`, { seen: async () => (await told(tab, peer)).slice(-3) })
    const seen = await told(tab, peer)
    const first = Number(seen[0]?.slice(1))
    assert.deepEqual(seen, texts(first, written), 'each once, in order, without a gap')
    if (since.get(tab) === 1) assert.equal(first, 1, 'a tab that was there from the start saw all')
    assert.equal((await tab.events('gap')).length, 0)
  }
  // What was sent while leaders ended is there once, in order, at both ends; and each promise was kept.
  const log = await bob.page.evaluate(async (user) => {
    const conversation = await window.chat.direct(user)
    const line = (await window.chat.conversations()).find((one) => one.id === conversation)
    let all = await window.chat.history(conversation, { limit: 100 })
    while (all.length > 0 && (all[0]?.seq ?? 1) > 1) {
      all = [...(await window.chat.history(conversation, { before: all[0]?.seq ?? 1, limit: 100 })), ...all]
    }
    return { all: all.map(({ seq, from, key }) => ({ seq, from, key })), last: line?.lastSeq }
  }, user)
  assertWhole(log.all, log.all.length)
  assert.deepEqual([...log.all].filter((one) => one.from === user).map((one) => one.key).sort(), texts(1, sent, 's').map((text) => `k-${text}`).sort(), 'every send once')
  assert.deepEqual(log.all.filter((one) => one.from === peer).map((one) => one.key), texts(1, written).map((text) => `k-${text}`))
  for (const tab of group.tabs) {
    const open = await tab.page.evaluate(async () => {
      const ended = await Promise.race([Promise.all(window.kept.sent ?? []), new Promise((resolve) => setTimeout(() => resolve(undefined), 10_000))])
      return ended === undefined
    })
    assert.equal(open, false, 'every send was answered')
  }
}

scenario('fifty leaders close during traffic: nothing is lost, doubled or out of order', async (scene) => {
  await leadersEnd(scene, 'closer', 50, (group, leader) => group.close(leader))
}, { timeout: 240_000 })

scenario('twenty leaders are killed during traffic: nothing is lost, doubled or out of order', async (scene) => {
  scene.expect(/page crashed/)
  await leadersEnd(scene, 'killer', 20, (group, leader) => group.kill(leader))
}, { timeout: 240_000 })

scenario('a leader that hangs loses its lead, and comes back as one of the others', async (scene) => {
  const group = await TabGroup.open(scene, 'hanger', front.origin, 3)
  const leader = await group.leader()
  const others = group.tabs.filter((tab) => tab !== leader)
  const [other] = /** @type {[SdkPage]} */ (others)
  await post(other, 'hanger-peer', texts(1, 5))
  await until('five are told', async () => (await told(leader, 'hanger')).length === 5)
  // Long enough to be taken for hung: nothing of the page runs meanwhile.
  const hangs = leader.page.evaluate(() => {
    const end = Date.now() + 7_000
    while (Date.now() < end);
  })
  await post(other, 'hanger-peer', texts(6, 10))
  await until('another leads', async () => (await Promise.all(others.map((tab) => tab.state()))).filter((state) => state.leader && state.status === 'online').length === 1, { seen: () => Promise.all(others.map((tab) => tab.state())) })
  const sent = await other.page.evaluate(async () => Promise.all(window.kept.sent))
  assert.deepEqual(sent, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  await hangs
  await group.leader()
  assert.equal((await leader.state()).leader, false, 'the one that hung follows')
  await post(leader, 'hanger-peer', texts(11, 12))
  for (const tab of group.tabs) {
    await until('all twelve are told', async () => (await told(tab, 'hanger')).length >= 12, { seen: () => told(tab, 'hanger') })
    assert.deepEqual(await told(tab, 'hanger'), texts(1, 12))
    assert.equal((await tab.events('gap')).length, 0)
  }
}, { timeout: 120_000 })

scenario('a tab with an older version makes way for a newer one, and says so', async (scene) => {
  const group = await TabGroup.open(scene, 'dated', front.origin, 2)
  const leader = await group.leader()
  const name = await leader.page.evaluate(async () => (await indexedDB.databases())[0]?.name ?? '')
  // A tab of a later version speaks on the same channel.
  const newer = await SdkPage.open(scene, 'dated', front.origin, { profile: group.profile, connect: false, device: ' of tomorrow' })
  await newer.page.evaluate(({ name, version }) => {
    const channel = new BroadcastChannel(name)
    channel.postMessage([version, 'something of tomorrow'])
    window.kept.lock = navigator.locks.request(name, () => new Promise(() => {}))
  }, { name, version: VERSION + 1 })
  for (const tab of group.tabs) {
    const state = await until('it stops', async () => {
      const state = await tab.state()
      return state.status === 'stopped' && state
    })
    assert.deepEqual([state.reason?.code, state.reason?.class, state.leader], ['outdated', 'stop', false])
    const refused = await tab.page.evaluate(() => window.chat.conversations().then(() => 'answered', (error) => error.code))
    assert.equal(refused, 'outdated')
  }
  await until('the newer one can lead', () => newer.page.evaluate(async (name) => (await navigator.locks.query()).held?.some((lock) => lock.name === name), name))
})

scenario('an older version that is heard is told to make way', async (scene) => {
  const alice = await SdkPage.open(scene, 'modern', front.origin)
  await alice.online()
  const older = await SdkPage.open(scene, 'modern', front.origin, { profile: alice.page.context(), connect: false, device: ' of yesterday' })
  const answer = await older.page.evaluate(async () => {
    const name = (await indexedDB.databases())[0]?.name ?? ''
    const channel = new BroadcastChannel(name)
    const heard = new Promise((resolve) => channel.addEventListener('message', (event) => resolve(event.data[0]), { once: true }))
    channel.postMessage([0, 'hello'])
    return heard
  })
  assert.equal(answer, VERSION, 'it learns the newer version')
  assert.equal((await alice.state()).status, 'online')
})

scenario('logging out in one tab ends all tabs, and the next login is another device', async (scene) => {
  const group = await TabGroup.open(scene, 'leaver', front.origin, 3)
  await group.leader()
  const [first, second, third] = /** @type {[SdkPage, SdkPage, SdkPage]} */ (group.tabs)
  const device = await first.page.evaluate(() => window.chat.device)
  await second.page.evaluate(() => window.chat.logout())
  for (const tab of [first, second, third]) {
    await until('it is stopped', async () => (await tab.state()).status === 'stopped', { seen: () => tab.state() })
  }
  assert.ok(['logged-out', 'closed'].includes((await first.state()).reason?.code ?? ''))
  await third.load(front.origin)
  await third.connect()
  await third.online()
  assert.notEqual(await third.page.evaluate(() => window.chat.device), device)
  assert.equal((await first.state()).status, 'stopped', 'what was signed out stays so')
})
