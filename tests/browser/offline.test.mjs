// @ts-check
/**
 * The relay is down: what is written waits in sight and survives, what was read is still there. The pages come from
 * a front (harness/front.mjs), as the relay's own `/demo/` is down too.
 */

import assert from 'node:assert/strict'

import { Person } from './harness/demo.mjs'
import { Front } from './harness/front.mjs'
import { assertWhole, assertWritten } from './harness/log.mjs'
import { Relay } from './harness/relay.mjs'
import { UNREACHABLE, scenario } from './harness/scene.mjs'
import { until } from './harness/wait.mjs'

/** Back-off waits grow with the outage. */
const RECOVERY_MS = 45_000
const AT_ONCE_MS = 1_000
const PATIENCE_MS = { least: 4_000, most: 7_000 }

/** @param {import('./harness/scene.mjs').Scene} scene */
async function world(scene) {
  scene.expect(...UNREACHABLE)
  const relay = await Relay.start(scene)
  const front = await Front.open(scene, () => relay.port)
  return { relay, front }
}

/**
 * In the page: when it went offline, and when the banner came.
 * @param {Person} person
 */
async function watchBanner(person) {
  await person.page.evaluate(() => {
    const { chat } = /** @type {NonNullable<typeof window.hongyanDemo>} */ (window.hongyanDemo)
    const seen = (window.kept = { awayAt: chat.state.status === 'online' ? undefined : performance.now(), bannerAt: undefined })
    chat.on('state', ({ status }) => {
      if (status !== 'online') seen.awayAt ??= performance.now()
    })
    const look = () => {
      if (document.querySelector('[data-testid="offline-banner"]') !== null) seen.bannerAt ??= /** @type {any} */ (performance.now())
    }
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true })
    look()
  })
}

/** @param {Person} person */
async function assertPatience(person) {
  const { awayAt, bannerAt } = await until('the banner', async () => {
    const seen = await person.page.evaluate(() => window.kept)
    return seen.bannerAt !== undefined && seen
  })
  const patience = bannerAt - awayAt
  assert.ok(patience >= PATIENCE_MS.least && patience <= PATIENCE_MS.most, `the banner came after ${patience} ms`)
}

scenario('what is written while the relay is down is shown at once, survives a reload, and arrives', async (scene) => {
  const { relay, front } = await world(scene)
  const alice = await Person.enter(scene, 'alice', front.origin)
  const bob = await Person.enter(scene, 'bob', front.origin)
  const conversation = await alice.startDirect('bob')
  const texts = ['one', 'two', 'three']
  for (const text of texts) await alice.type(text)
  await until('bob has them', async () => (await bob.conversation(conversation))?.lastSeq === 3)

  await watchBanner(alice)
  await relay.kill()
  for (const text of ['four', 'five', 'six']) {
    texts.push(text)
    await alice.type(text)
    const message = await until(`"${text}" is in sight`, () => alice.messageOf(text), { within: AT_ONCE_MS })
    assert.deepEqual([message.status, message.seq], ['sending', 0])
  }
  await assertPatience(alice)

  await alice.reload()
  await until('everything is in sight again', async () => (await alice.messages()).length === 6, { seen: () => alice.look() })
  const restored = await alice.messages()
  assert.deepEqual(restored.map(({ text, status }) => [text.trim(), status]), texts.map((text, index) => [text, index < 3 ? 'sent' : 'sending']))

  texts.push('seven')
  await alice.type('seven')
  await until('"seven" is in sight', () => alice.messageOf('seven'), { within: AT_ONCE_MS })
  await relay.start()
  await until('all are sent', async () => {
    const messages = await alice.messages()
    return messages.length === 7 && messages.every((message) => message.status === 'sent')
  }, { within: RECOVERY_MS, seen: () => alice.look() })
  assert.deepEqual((await alice.messages()).map((message) => message.key).slice(0, 6), restored.map((message) => message.key), 'the keys are those of before')
  assert.equal(await alice.page.getByTestId('offline-banner').count(), 0)

  await until('bob has all', async () => (await bob.conversation(conversation))?.lastSeq === 7, { within: RECOVERY_MS, seen: () => bob.look() })
  const log = await bob.history(conversation)
  assertWhole(log, 7)
  assertWritten(log, 'alice', texts)
  await until('alice’s outbox is empty in the cache', async () => (await alice.cache())?.outbox.length === 0)
})

scenario('a cold open without the relay shows the list and the newest page', async (scene) => {
  const { relay, front } = await world(scene)
  const last = 120
  const alice = await Person.enter(scene, 'alice', front.origin)
  const bob = await Person.enter(scene, 'bob', front.origin)
  const conversation = await alice.direct('bob')
  for (let index = 1; index <= last; index++) await bob.post(conversation, `note ${index}`)
  await alice.post(await alice.direct('carol'), 'hello carol')
  await until('alice has everything, and so has her cache', async () => {
    const cache = await alice.cache()
    return cache?.messages.length === last + 1 && cache.outbox.length === 0
  }, { within: RECOVERY_MS, seen: () => alice.look() })
  await alice.page.close()
  await relay.kill()

  const again = await Person.enter(scene, 'alice', front.origin, { profile: alice.profile, device: ' again' })
  await watchBanner(again)
  await until('the list', async () => (await again.page.getByTestId('conversation').count()) === 2, { within: 3_000 })
  assert.equal(await again.unread(conversation), last)
  assert.match(await again.line(conversation).innerText(), /note 120/)
  assert.match(await again.line(await again.direct('carol')).innerText(), /hello carol/)
  assert.notEqual((await again.state())?.status, 'online')

  await again.openConversation(conversation)
  await until('the newest message', () => again.messageOf(`note ${last}`), { within: 3_000, seen: () => again.look() })
  await assertPatience(again)
  // And more than the newest page: what is cached can be read without the network.
  const seen = await again.scrollThrough(last)
  assert.deepEqual(seen.map((message) => message.text.trim()), Array.from({ length: last }, (_, index) => `note ${index + 1}`))

  await relay.start()
  await again.online()
  await until('the banner is gone', async () => (await again.page.getByTestId('offline-banner').count()) === 0)
  await again.page.getByTestId('jump-newest').click()
  await until('all is read', async () => (await again.unread(conversation)) === 0, { seen: () => again.look() })
})
