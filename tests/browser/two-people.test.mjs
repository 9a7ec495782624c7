// @ts-check
/**
 * Alice and bob chat through everything that goes wrong: 200 messages each way while both reload three times, the
 * relay is killed twice, and bob's network is silent for ten seconds. Nothing is lost, doubled or out of order, in
 * the pages and in their caches (promises R1 to R6 of the design, in a browser).
 */

import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'

import { Person } from './harness/demo.mjs'
import { assertSame, assertWhole, assertWritten } from './harness/log.mjs'
import { Proxy } from './harness/proxy.mjs'
import { Relay } from './harness/relay.mjs'
import { UNREACHABLE, scenario } from './harness/scene.mjs'
import { until } from './harness/wait.mjs'

const EACH = 200
const CUT_MS = 10_000
/** Long enough for the back-off's waits after an outage of some seconds, on a busy machine. */
const RECOVERY_MS = 45_000

/** Writes numbered messages, by turns with the composer and through the SDK. */
class Writer {
  /** @type {string[]} */
  texts = []

  /**
   * @param {Person} person
   * @param {string} conversation
   */
  constructor(person, conversation) {
    this.person = person
    this.conversation = conversation
  }

  /**
   * @param {number} count
   * @param {{ composer?: boolean }} [options] whether the conversation is open
   */
  async write(count, { composer = true } = {}) {
    for (let written = 0; written < count; written++) {
      const text = `${this.person.user} honks ${this.texts.length + 1}`
      this.texts.push(text)
      if (composer && this.texts.length % 2 === 0) await this.person.type(text)
      else await this.person.post(this.conversation, text)
    }
  }

  /** Writes one more, sees it, and reloads. */
  async writeAndReload() {
    const text = `${this.person.user} honks ${this.texts.length + 1}`
    this.texts.push(text)
    await this.person.type(text)
    const { key } = await until(`${text} is in sight`, () => this.person.messageOf(text))
    await this.reloadWith(key)
  }

  /** Posts one more, with the conversation closed, and reloads. */
  async postAndReload() {
    const text = `${this.person.user} honks ${this.texts.length + 1}`
    this.texts.push(text)
    await this.reloadWith(await this.person.post(this.conversation, text))
  }

  /**
   * Reloads the moment this message is in the cache. (A save waits for the one before it, some milliseconds on a
   * busy machine; storage.test.mjs has the reload in the very moment of a send.)
   * @param {string} key
   */
  async reloadWith(key) {
    await until(`${key} is kept`, async () => {
      const cache = await this.person.cache()
      return cache !== undefined && [...cache.outbox, ...cache.messages].some((message) => message.key === key)
    })
    await this.person.reload()
  }
}

scenario('two people, 400 messages, six reloads, two crashes, one silent network', async (scene) => {
  scene.expect(...UNREACHABLE)
  const relay = await Relay.start(scene)
  const networks = { alice: await Proxy.open(scene, () => relay.port), bob: await Proxy.open(scene, () => relay.port) }
  const alice = await Person.enter(scene, 'alice', networks.alice.origin)
  const bob = await Person.enter(scene, 'bob', networks.bob.origin)
  const conversation = await alice.startDirect('bob')
  assert.equal(await bob.startDirect('alice'), conversation, 'both compute the same id')
  const byAlice = new Writer(alice, conversation)
  const byBob = new Writer(bob, conversation)
  const written = () => byAlice.texts.length + byBob.texts.length

  // Both write; each reloads on a message that has just come into sight.
  await Promise.all([
    byAlice.write(10).then(() => byAlice.writeAndReload()).then(() => byAlice.write(19)),
    byBob.write(20).then(() => byBob.writeAndReload()).then(() => byBob.write(9)),
  ])

  // The relay dies while both write, and comes back while both still write.
  {
    const all = Promise.all([byAlice.write(40), byBob.write(40)])
    await until('some of it is written', () => written() >= 90)
    await relay.kill()
    await until('both have noticed', async () => (await alice.state())?.status !== 'online' && (await bob.state())?.status !== 'online')
    await relay.start()
    await all
    await alice.online()
    await bob.online()
  }

  // Bob has the conversation closed. What alice writes is unread, what he writes himself is not.
  await until('bob has read everything', async () => {
    const line = await bob.conversation(conversation)
    return line?.lastSeq === written() && line.unread === 0
  }, { within: RECOVERY_MS, seen: () => bob.conversation(conversation) })
  await bob.closeConversation()
  await Promise.all([
    byAlice.write(20).then(() => byAlice.writeAndReload()).then(() => byAlice.write(19)),
    byBob.write(14, { composer: false }).then(() => byBob.postAndReload()).then(() => byBob.write(15, { composer: false })),
  ])
  await until('40 are unread in bob’s list', async () => {
    const unread = await bob.unread(conversation)
    assert.ok(unread <= 40, `${unread} unread`)
    const line = await bob.conversation(conversation)
    return unread === 40 && line?.lastSeq === written() && line.unread === 40
  }, { within: RECOVERY_MS, seen: () => bob.conversation(conversation) })
  const bobsPhone = await Person.enter(scene, 'bob', networks.alice.origin, { device: "'s phone" })
  await until('40 are unread on bob’s phone', async () => (await bobsPhone.unread(conversation)) === 40, { seen: () => bobsPhone.conversation(conversation) })
  await bob.openConversation(conversation)
  await until('nothing is unread', async () => (await bob.unread(conversation)) === 0, { seen: () => bob.conversation(conversation) })
  await until('nothing is unread on bob’s phone', async () => (await bobsPhone.unread(conversation)) === 0, { seen: () => bobsPhone.conversation(conversation) })

  // Bob's network is silent for ten seconds. What he writes waits; alice goes on.
  {
    const before = await bob.history(conversation)
    networks.bob.cut()
    const cut = delay(CUT_MS)
    await Promise.all([byAlice.write(50), byBob.write(50)])
    await until('alice’s are sent', async () => (await alice.conversation(conversation))?.last?.status === 'sent')
    const newest = /** @type {string} */ (byBob.texts.at(-1))
    await until('bob’s wait in his page', async () => (await bob.messageOf(newest))?.status === 'sending', { seen: () => bob.look() })
    const heard = (await bob.history(conversation)).filter((message) => message.seq > before.length)
    assert.deepEqual(heard, [], 'nothing passes a cut network')
    await cut
    networks.bob.heal()
    await until('bob’s are sent', async () => (await bob.conversation(conversation))?.lastSeq === written(), { within: RECOVERY_MS, seen: () => bob.look() })
  }

  // The relay dies with sends on the wire; both reload as it comes back.
  await Promise.all([byAlice.write(20), byBob.write(20)])
  await relay.kill()
  await Promise.all([byAlice.write(9), byBob.write(19)])
  await relay.start()
  await Promise.all([byAlice.writeAndReload(), byBob.writeAndReload()])
  // And alice's connections break in the middle of the last ones.
  await Promise.all([byAlice.write(5).then(() => networks.alice.reset()).then(() => byAlice.write(5)), byBob.write(10)])
  assert.deepEqual([byAlice.texts.length, byBob.texts.length], [EACH, EACH])

  for (const person of [alice, bob, bobsPhone]) {
    await until(`${person.user} has everything`, async () => {
      const line = await person.conversation(conversation)
      return line?.lastSeq === 2 * EACH && line.last?.status === 'sent'
    }, { within: RECOVERY_MS, seen: () => person.look() })
  }

  // The log: whole, each once, each sender in the order of writing, and everywhere the same.
  const log = await alice.history(conversation)
  assertWhole(log, 2 * EACH)
  assertWritten(log, 'alice', byAlice.texts)
  assertWritten(log, 'bob', byBob.texts)
  assertSame(await bob.history(conversation), log, 'bob’s history')
  assertSame(await bobsPhone.history(conversation), log, 'the history of bob’s phone')
  for (const person of [alice, bob, bobsPhone]) {
    await until(`${person.user}'s cache has settled`, async () => {
      const cache = await person.cache()
      return cache?.messages.length === 2 * EACH && cache.outbox.length === 0
    }, { seen: () => person.look() })
    const cached = (await person.cache())?.messages.filter((message) => message.conversation === conversation) ?? []
    assertSame(cached, log, `${person.user}'s cache`)
  }

  // The page: scrolled through from the newest to the first.
  for (const person of [alice, bob]) {
    const seen = await person.scrollThrough(2 * EACH)
    assertSame(seen, log, `what ${person.user} sees`)
    assert.deepEqual(seen.map((message) => message.text.trim()), log.map((message) => message.body.text))
    assert.ok(seen.every((message) => message.status === 'sent'))
  }

  // Read marks, and what was promised.
  await until('nothing is unread anywhere', async () => {
    const lines = await Promise.all([alice, bob, bobsPhone].map((person) => person.conversation(conversation)))
    return lines.every((line) => line?.unread === 0)
  }, { seen: async () => Promise.all([alice, bob, bobsPhone].map((person) => person.conversation(conversation))) })
  for (const person of [alice, bob]) {
    assert.ok(person.confirmed.size > 0)
    for (const [key, seq] of person.confirmed) {
      const message = log[seq - 1]
      assert.deepEqual([message?.key, message?.from], [key, person.user], `the promise of ${key}`)
    }
  }
  assert.ok(!relay.log.includes('honks'), 'no message in the relay’s log')
}, { timeout: 150_000 })
