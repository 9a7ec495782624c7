// @ts-check
/** Several devices and tabs of one person: each learns everything, once and in order (promises R2 and R3). */

import assert from 'node:assert/strict'

import { Person } from './harness/demo.mjs'
import { Front } from './harness/front.mjs'
import { assertSame, assertWhole } from './harness/log.mjs'
import { Relay } from './harness/relay.mjs'
import { scenario } from './harness/scene.mjs'
import { SdkPage } from './harness/sdk.mjs'
import { until } from './harness/wait.mjs'

/** @param {import('./harness/scene.mjs').Scene} scene */
async function world(scene) {
  const relay = await Relay.start(scene)
  const front = await Front.open(scene, () => relay.port)
  return { relay, front }
}

/**
 * Sends one after the other, each when the one before is durable.
 * @param {SdkPage} page
 * @param {string} conversation
 * @param {string[]} texts
 */
function sendAll(page, conversation, texts) {
  return page.page.evaluate(async ({ conversation, texts }) => {
    for (const text of texts) await window.chat.send(conversation, { text })
  }, { conversation, texts })
}

/**
 * The line of the conversation list.
 * @param {SdkPage} page
 * @param {string} conversation
 */
function lineOf(page, conversation) {
  return page.page.evaluate(async (id) => (await window.chat.conversations()).find((one) => one.id === id), conversation)
}

scenario('a second device catches up from the start, then follows live, both ways', async (scene) => {
  const { front } = await world(scene)
  const phone = await SdkPage.open(scene, 'alice', front.origin, { device: "'s phone" })
  const bob = await SdkPage.open(scene, 'bob', front.origin)
  const conversation = await phone.page.evaluate(() => window.chat.direct('bob'))
  for (let round = 0; round < 5; round++) {
    await sendAll(phone, conversation, [`a${round}`, `b${round}`])
    await sendAll(bob, conversation, [`c${round}`, `d${round}`])
  }
  await until('the phone has all', async () => (await lineOf(phone, conversation))?.lastSeq === 20)

  const laptop = await SdkPage.open(scene, 'alice', front.origin, { device: "'s laptop" })
  await laptop.online()
  const caughtUp = await laptop.events('message')
  assertWhole(caughtUp, 20, 'the events of a new device')
  assert.notEqual(await laptop.page.evaluate(() => window.chat.device), await phone.page.evaluate(() => window.chat.device))
  const line = await lineOf(laptop, conversation)
  assert.deepEqual(line, await lineOf(phone, conversation), 'both devices show the same line')
  assert.equal(line?.unread, 10, 'the ten of bob, not one’s own')

  // Live, in both directions, one's own included.
  await sendAll(bob, conversation, ['e'])
  await sendAll(phone, conversation, ['f'])
  await sendAll(laptop, conversation, ['g'])
  for (const device of [phone, laptop]) {
    await until('all three came', async () => (await lineOf(device, conversation))?.lastSeq === 23)
    // The line shows at once what came; it is told when it is saved.
    await until('all three are told', async () => (await device.events('message')).length >= 23)
    const messages = await device.events('message')
    assertWhole(messages, 23, 'the events')
    assert.deepEqual(messages.slice(20).map(({ from, body, status }) => [from, body.text, status]), [['bob', 'e', 'sent'], ['alice', 'f', 'sent'], ['alice', 'g', 'sent']])
  }
  assertSame(await laptop.events('message'), await phone.events('message'), 'both saw the same')
  const outbox = (await phone.events('outbox')).filter((message) => message.body.text === 'f')
  assert.deepEqual(outbox.map(({ status, seq }) => [status, seq]), [['sending', 0], ['sent', 22]])
  assert.deepEqual((await laptop.events('outbox')).map((message) => message.body.text), ['g', 'g'], 'another device’s outbox is its own')

  // Read marks, from either device to the other.
  assert.equal((await lineOf(phone, conversation))?.unread, 11)
  await phone.page.evaluate((id) => window.chat.markRead(id, 3), conversation)
  await until('the laptop knows', async () => (await lineOf(laptop, conversation))?.readSeq === 3)
  assert.equal((await lineOf(laptop, conversation))?.unread, 10)
  await laptop.page.evaluate((id) => window.chat.markRead(id), conversation)
  await until('the phone knows', async () => (await lineOf(phone, conversation))?.unread === 0)
  assert.equal((await lineOf(phone, conversation))?.readSeq, 23)
  await phone.page.evaluate((id) => window.chat.markRead(id, 5), conversation)
  assert.equal((await lineOf(phone, conversation))?.readSeq, 23, 'a read mark never moves back')

  // A reload resumes from the cursor: nothing comes twice.
  await sendAll(bob, conversation, ['h'])
  await until('the laptop’s cache has it', async () => (await laptop.cache())?.messages.length === 24)
  await laptop.load(front.origin)
  await laptop.connect()
  await laptop.online()
  await sendAll(bob, conversation, ['i'])
  await until('it is live again', async () => (await laptop.events('message')).length > 0)
  assert.deepEqual((await laptop.events('message')).map((message) => message.body.text), ['i'])
  assert.equal((await laptop.events('gap')).length, 0)
})

scenario('in the demo: sent on one device, seen on the other, read on one, read on both', async (scene) => {
  const { relay } = await world(scene)
  const phone = await Person.enter(scene, 'alice', relay.origin, { device: "'s phone" })
  const laptop = await Person.enter(scene, 'alice', relay.origin, { device: "'s laptop" })
  const bob = await Person.enter(scene, 'bob', relay.origin)
  const conversation = await phone.startDirect('bob')
  await phone.type('from the phone')
  await until('the laptop lists it', () => laptop.line(conversation).isVisible())
  assert.equal(await laptop.unread(conversation), 0, 'one’s own is not unread')
  await laptop.openConversation(conversation)
  const seen = await until('the laptop shows it', () => laptop.messageOf('from the phone'))
  assert.deepEqual([seen.from, seen.status, seen.seq], ['alice', 'sent', 1])

  await phone.closeConversation()
  await laptop.closeConversation()
  await bob.openConversation(conversation)
  await bob.type('hello')
  await bob.type('are you there?')
  for (const device of [phone, laptop]) {
    await until('two are unread', async () => (await device.unread(conversation)) === 2, { seen: () => device.look() })
  }
  await laptop.openConversation(conversation)
  for (const device of [laptop, phone]) {
    await until('nothing is unread', async () => (await device.unread(conversation)) === 0, { seen: () => device.look() })
  }
})
