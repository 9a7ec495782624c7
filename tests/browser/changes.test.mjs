// @ts-check
/** Edits, recalls and reactions: from any tab, on every device, in the cache, and to who was away. And in the demo. */

import assert from 'node:assert/strict'
import { after, before } from 'node:test'

import { Person } from './harness/demo.mjs'
import { newProfile } from './harness/chromium.mjs'
import { Front } from './harness/front.mjs'
import { Proxy } from './harness/proxy.mjs'
import { Relay } from './harness/relay.mjs'
import { Scene, scenario } from './harness/scene.mjs'
import { SdkPage } from './harness/sdk.mjs'
import { TabGroup } from './harness/tabs.mjs'
import { until } from './harness/wait.mjs'

/** Who lacks more changes than this drops what is cached instead (`CHANGES_EVENTS_MAX` in `client/src/limits.rs`). */
const CHANGES_MAX = 200

const ground = new Scene()
/** @type {Relay} */
let relay
/** @type {Front} */
let front

before(async () => {
  relay = await Relay.start(ground, {
    // Groups of three come by their logs.
    HONGYAN_DIFFUSION_LOG_MEMBERS: '2',
    HONGYAN_LIMITS_SENDS_PER_SECOND: '100000',
    HONGYAN_LIMITS_SENDS_BURST: '100000',
  })
  front = await Front.open(ground, () => relay.port)
})

after(async () => {
  await ground.end()
  ground.check()
})

/** A name that only this test uses. @param {string} name */
const fresh = (name) => `${name}-${Math.random().toString(36).slice(2, 8)}`

/**
 * @param {SdkPage} page
 * @param {string} conversation
 * @param {string[]} texts
 * @returns {Promise<void>}
 */
function sendAll(page, conversation, texts) {
  return page.page.evaluate(async ({ conversation, texts }) => {
    for (const text of texts) await window.chat.send(conversation, { text })
  }, { conversation, texts })
}

/**
 * @param {SdkPage} page
 * @param {'edit' | 'recall' | 'react' | 'unreact'} call
 * @param {[string, number, unknown?]} args
 * @returns {Promise<import('hongyan').Message>}
 */
function change(page, call, ...args) {
  return page.page.evaluate(({ call, args }) => /** @type {any} */ (window.chat)[call](...args), { call, args })
}

/**
 * What a page was told of changes, in order: `edited 1 by alice`.
 * @param {SdkPage} page
 */
async function changes(page) {
  const events = await page.events('change')
  return events.map(({ kind, by, reaction, message }) => `${kind} ${message.seq} by ${by}${reaction === undefined ? '' : ` ${reaction}`}`)
}

/**
 * @param {SdkPage} page
 * @param {string[]} wanted
 */
async function told(page, wanted) {
  await until(`${page.user} is told ${wanted.at(-1)}`, async () => (await changes(page)).length >= wanted.length, { seen: () => changes(page) })
  assert.deepEqual(await changes(page), wanted)
}

/**
 * The messages as the history has them, without what is the same in all.
 * @param {SdkPage} page
 * @param {string} conversation
 */
function history(page, conversation) {
  return page.page.evaluate(async (conversation) => {
    const messages = await window.chat.history(conversation)
    return messages.map(({ seq, body, edited, recalled, reactions }) => ({
      seq,
      text: body.text,
      edited: edited !== undefined,
      recalled: recalled !== undefined,
      reactions: reactions ?? [],
    }))
  }, conversation)
}

scenario('from any tab, on every device and in every tab, and in the cache', async (scene) => {
  const [alice, bob] = [fresh('alice'), fresh('bob')]
  const proxy = await Proxy.open(scene, () => relay.port)
  const own = await Front.open(scene, () => proxy.port)
  const tabs = await TabGroup.open(scene, alice, front.origin, 2)
  const leader = await tabs.leader()
  const follower = /** @type {SdkPage} */ (tabs.tabs.find((tab) => tab !== leader))
  const laptop = await SdkPage.open(scene, alice, own.origin, { device: "'s laptop" })
  const other = await SdkPage.open(scene, bob, front.origin)
  const conversation = await leader.page.evaluate((bob) => window.chat.direct(bob), bob)
  await sendAll(leader, conversation, ['helo', 'a secret', 'geese'])
  await until('bob has all', async () => (await other.events('message')).length === 3)

  const edited = await change(follower, 'edit', conversation, 1, { text: 'hello', mood: 'fine' })
  assert.deepEqual(edited.body, { text: 'hello', mood: 'fine' })
  assert.ok(Number(edited.edited) > 0 && edited.seq === 1)
  const reacted = await change(other, 'react', conversation, 3, '🪿')
  assert.deepEqual(reacted.reactions, [{ reaction: '🪿', users: [bob] }])
  await change(follower, 'react', conversation, 3, '🪿')
  await change(other, 'react', conversation, 3, 'honk')
  await change(other, 'unreact', conversation, 3, 'honk')
  const recalled = await change(leader, 'recall', conversation, 2)
  assert.ok(Number(recalled.recalled) > 0 && recalled.body.text === '')
  // What is so already changes nothing and is told to nobody.
  await change(leader, 'recall', conversation, 2)
  await change(other, 'react', conversation, 3, '🪿')

  const all = [
    `edited 1 by ${alice}`,
    `reacted 3 by ${bob} 🪿`,
    `reacted 3 by ${alice} 🪿`,
    `reacted 3 by ${bob} honk`,
    `unreacted 3 by ${bob} honk`,
    `recalled 2 by ${alice}`,
  ]
  const now = [
    { seq: 1, text: 'hello', edited: true, recalled: false, reactions: [] },
    { seq: 2, text: '', edited: false, recalled: true, reactions: [] },
    { seq: 3, text: 'geese', edited: false, recalled: false, reactions: [{ reaction: '🪿', users: [bob, alice] }] },
  ]
  for (const page of [leader, follower, laptop, other]) {
    await told(page, all)
    assert.deepEqual(await history(page, conversation), now)
  }
  const line = await laptop.page.evaluate(async (id) => (await window.chat.conversations()).find((one) => one.id === id), conversation)
  assert.deepEqual(line?.last?.reactions, [{ reaction: '🪿', users: [bob, alice] }])

  // Nobody but the sender edits, and the refusal says so.
  const refused = await other.page.evaluate(
    (conversation) => window.chat.edit(conversation, 1, { text: 'mine' }).catch((error) => `${error.class} ${error.code}`),
    conversation,
  )
  assert.equal(refused, 'stop not-permitted')

  // A reload without a network shows it from the cache.
  proxy.cut()
  await laptop.load(own.origin)
  await laptop.connect()
  assert.deepEqual(await history(laptop, conversation), now)
})

scenario('who was away catches up, once and in order, by the queue and by a log', async (scene) => {
  const [alice, bob, carol] = [fresh('alice'), fresh('bob'), fresh('carol')]
  const profile = await newProfile(scene)
  const writer = await SdkPage.open(scene, alice, front.origin)
  const away = await SdkPage.open(scene, bob, front.origin, { profile })
  for (const members of [[bob], [bob, carol]]) {
    const group = await writer.page.evaluate((members) => window.chat.groups.create({ title: 'geese', members }), members)
    await sendAll(writer, group, ['one', 'two'])
    await until('bob has both', async () => (await away.events('message')).at(-1)?.seq === 2)
    await away.page.evaluate(() => window.chat.close())

    await change(writer, 'edit', group, 1, { text: 'ONE' })
    await sendAll(writer, group, ['three'])
    await change(writer, 'react', group, 3, '👍')
    await change(writer, 'recall', group, 2)
    await away.connect()
    await away.online()
    await told(away, [`edited 1 by ${alice}`, `reacted 3 by ${alice} 👍`, `recalled 2 by ${alice}`])
    assert.deepEqual((await history(away, group)).map(({ text }) => text), ['ONE', '', 'three'])

    // The owner gives it a new title and takes back what a member wrote.
    await sendAll(away, group, ['four'])
    await writer.page.evaluate((group) => window.chat.groups.rename(group, 'swans'), group)
    await change(writer, 'recall', group, 4)
    await until('bob is told both', async () => (await changes(away)).length === 4, { seen: () => changes(away) })
    const title = () => away.page.evaluate(async (id) => (await window.chat.conversations()).find((one) => one.id === id)?.title, group)
    await sendAll(writer, group, ['five'])
    await until('the title is new', async () => (await title()) === 'swans', { seen: title })
    const refused = await away.page.evaluate((group) => window.chat.groups.rename(group, 'mine').catch((error) => error.code), group)
    assert.equal(refused, 'not-permitted')
  }
})

scenario('of a large group, who was away for too long reads the history anew', async (scene) => {
  const [alice, bob, carol] = [fresh('alice'), fresh('bob'), fresh('carol')]
  const writer = await SdkPage.open(scene, alice, front.origin)
  const away = await SdkPage.open(scene, bob, front.origin)
  const group = await writer.page.evaluate((members) => window.chat.groups.create({ title: 'geese', members }), [bob, carol])
  await sendAll(writer, group, ['one', 'two'])
  await until('bob has both', async () => (await away.events('message')).length === 2)
  assert.equal((await history(away, group)).length, 2)
  await away.page.evaluate(() => window.chat.close())
  await writer.page.evaluate(async ({ group, count }) => {
    for (let at = 0; at < count; at++) await window.chat.edit(group, 1 + (at % 2), { text: `text ${at}` })
  }, { group, count: CHANGES_MAX + 10 })
  await away.connect()
  await until('the gap is told', async () => (await away.events('gap')).length > 0)
  assert.deepEqual(await away.events('gap'), [{ conversation: group }])
  assert.deepEqual(await changes(away), [])
  assert.deepEqual((await history(away, group)).map(({ text }) => text), [`text ${CHANGES_MAX + 8}`, `text ${CHANGES_MAX + 9}`])
  await change(writer, 'react', group, 1, '👍')
  await told(away, [`reacted 1 by ${alice} 👍`])
})

scenario('the demo: editing, reacting, taking back, renaming, by pointer and by keyboard', async (scene) => {
  const [a, b] = [fresh('alice'), fresh('bob')]
  const alice = await Person.enter(scene, a, relay.origin)
  const bob = await Person.enter(scene, b, relay.origin)
  const { page } = alice
  await page.getByTestId('new-group').click()
  await page.getByTestId('new-group-title').fill('Geese')
  await page.getByTestId('new-group-members').fill(b)
  await page.getByTestId('new-group-submit').click()
  await alice.type('helo')
  const line = bob.page.getByTestId('conversation')
  await until('bob’s list has the group', async () => (await line.count()) === 1)
  const group = (await line.getAttribute('data-id')) ?? ''
  await bob.openConversation(group)
  await until('bob reads it', () => bob.messageOf('helo'))
  const of = (/** @type {Person} */ person, /** @type {string} */ text) => person.page.getByTestId('message').filter({ hasText: text })

  // Bob reacts with the pointer, alice joins in by the chip and takes it back again.
  await of(bob, 'helo').hover()
  assert.equal(await bob.page.getByTestId('edit').count(), 0, 'another’s message is not his to edit')
  assert.equal(await bob.page.getByTestId('recall').count(), 0)
  await bob.page.locator('[data-testid="react"][data-reaction="👍"]').click()
  const chip = (/** @type {Person} */ person) => person.page.locator('[data-testid="reaction"][data-reaction="👍"]')
  const count = (/** @type {Person} */ person) => chip(person).getAttribute('data-count')
  await chip(alice).waitFor()
  assert.deepEqual([await count(alice), await chip(alice).getAttribute('aria-pressed')], ['1', 'false'])
  await chip(alice).click()
  await until('both react', async () => (await count(bob)) === '2', { seen: () => count(bob) })
  await until('hers is marked', async () => (await chip(alice).getAttribute('aria-pressed')) === 'true')
  await chip(alice).click()
  await until('one is left', async () => (await count(bob)) === '1', { seen: () => count(bob) })

  // Alice edits by keyboard: up to the message, to its tools, and Escape gives back what she was writing.
  await page.getByTestId('composer').fill('a draft')
  await page.getByTestId('messages').focus()
  await page.keyboard.press('ArrowUp')
  await page.getByTestId('edit').waitFor()
  while (!(await page.getByTestId('edit').evaluate((element) => element === document.activeElement))) await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  const composer = page.getByTestId('composer')
  await until('the composer has the text', async () => (await composer.inputValue()) === 'helo')
  await composer.press('Escape')
  await until('the draft is back', async () => (await composer.inputValue()) === 'a draft')
  await of(alice, 'helo').hover()
  await page.getByTestId('edit').first().click()
  await composer.fill('hello')
  await composer.press('Enter')
  await until('bob reads it anew', () => bob.messageOf('hello'))
  assert.equal(await composer.inputValue(), 'a draft')
  assert.equal(await bob.page.getByTestId('edited').innerText(), 'edited')
  await bob.reload()
  await until('he does after a reload', () => bob.messageOf('hello'))

  // The owner renames the group and takes back what bob wrote.
  await bob.type('a secret')
  await until('alice reads it', () => alice.messageOf('a secret'))
  await of(alice, 'a secret').hover()
  await page.getByTestId('recall').first().click()
  await page.getByTestId('recall').first().click()
  await until('it is gone', async () => (await bob.messageOf('You recalled a message')) !== undefined, { seen: () => bob.messages() })
  await until('alice sees no text of it', () => alice.messageOf(`A message from ${b} was recalled`))
  assert.ok(!(await bob.page.content()).includes('a secret'))
  await page.getByTestId('members').click()
  await page.getByTestId('group-title').fill('Swans')
  await page.getByTestId('group-rename').click()
  await until('bob sees the title', async () => /Swans/.test(await line.innerText()))
  const notice = bob.page.getByTestId('notice')
  await until('and is told', async () => /Swans/.test((await notice.allInnerTexts()).join()), { seen: () => notice.allInnerTexts() })
})

scenario('the demo on a phone: a tap shows what can be done with a message, within the screen', async (scene) => {
  const [a, b] = [fresh('alice'), fresh('bob')]
  const profile = await newProfile(scene, { viewport: { width: 320, height: 640 }, hasTouch: true, isMobile: true, locale: 'zh-CN' })
  const alice = await Person.enter(scene, a, relay.origin, { profile })
  const { page } = alice
  await alice.startDirect(b)
  await alice.type('雁')
  await until('it is sent', async () => (await alice.messageOf('雁'))?.status === 'sent')
  await page.getByTestId('message-text').tap()
  const tools = page.getByTestId('message-tools')
  await tools.waitFor()
  const box = await tools.boundingBox()
  assert.ok(box && box.x >= 0 && box.x + box.width <= 320, JSON.stringify(box))
  await page.locator('[data-testid="react"][data-reaction="🎉"]').tap()
  await page.getByTestId('reaction').waitFor()
  await until('the tools are gone', async () => (await tools.count()) === 0)
  await page.getByTestId('message-text').tap()
  await page.getByTestId('recall').tap()
  const second = await tools.boundingBox()
  assert.ok(second && second.x >= 0 && second.x + second.width <= 320, JSON.stringify(second))
  await page.getByTestId('recall').tap()
  await until('it is taken back', () => alice.messageOf('你撤回了一条消息'), { seen: () => alice.messages() })
})
