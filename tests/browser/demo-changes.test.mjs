// @ts-check
/** What the demo shows and says of changed messages, to who looks, who types and who listens. */

import assert from 'node:assert/strict'
import { after, before } from 'node:test'

import { Person } from './harness/demo.mjs'
import { Front } from './harness/front.mjs'
import { Relay } from './harness/relay.mjs'
import { Scene, scenario } from './harness/scene.mjs'
import { SdkPage } from './harness/sdk.mjs'
import { until } from './harness/wait.mjs'

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

/** @param {Person} person @param {string} text */
const bubble = (person, text) => person.page.getByTestId('message').filter({ hasText: text })

/**
 * The seq of the row that has the keyboard, itself or something in it.
 * @param {Person} person
 */
const focusedSeq = (person) =>
  person.page.evaluate(() => document.activeElement?.closest('.row')?.querySelector('[data-testid="message"]')?.getAttribute('data-seq'))

/**
 * Moves the keyboard on to a button.
 * @param {Person} person
 * @param {string} selector
 */
async function tabTo(person, selector) {
  const button = person.page.locator(selector)
  await button.waitFor()
  while (!(await button.evaluate((element) => element === document.activeElement))) await person.page.keyboard.press('Tab')
}

scenario('an edit that is refused keeps what was written', async (scene) => {
  const alice = await Person.enter(scene, 'edits', front.origin)
  await alice.startDirect('edits-peer')
  await alice.type('short')
  await until('it is sent', async () => (await alice.messageOf('short'))?.status === 'sent')
  const composer = alice.page.getByTestId('composer')
  await composer.fill('a draft')
  await bubble(alice, 'short').hover()
  await alice.page.getByTestId('edit').click()
  const long = 'long '.repeat(20_000).trim()
  await composer.fill(long)
  await composer.press('Enter')
  await alice.page.getByTestId('notice').waitFor()
  assert.equal(await composer.inputValue(), long)
  assert.ok(await alice.page.getByTestId('editing').isVisible(), 'it is still the message that is edited')
  await composer.fill('shorter')
  await composer.press('Enter')
  await until('it is edited', () => alice.messageOf('shorter'))
  await until('the draft is back', async () => (await composer.inputValue()) === 'a draft')
})

scenario('an edit that is given up while it hangs does not hold up the next', async (scene) => {
  const alice = await Person.enter(scene, 'hangs', front.origin)
  await alice.startDirect('hangs-peer')
  for (const text of ['one', 'two']) await alice.type(text)
  await until('both are sent', async () => (await alice.messageOf('two'))?.status === 'sent')
  // As a network does that has just gone: the first is never answered.
  await alice.page.evaluate(() => {
    const chat = /** @type {any} */ (window.hongyanDemo).chat
    const edit = chat.edit.bind(chat)
    chat.edit = () => {
      chat.edit = edit
      return new Promise(() => undefined)
    }
  })
  const composer = alice.page.getByTestId('composer')
  for (const text of ['one', 'two']) {
    await bubble(alice, text).hover()
    await alice.page.getByTestId('edit').click()
    await composer.fill(`${text} anew`)
    await composer.press('Enter')
    if (text === 'one') await composer.press('Escape')
  }
  await until('the second is edited', () => alice.messageOf('two anew'))
  assert.ok(await alice.messageOf('one'))
})

scenario('the keyboard stays at a message whose button goes', async (scene) => {
  const alice = await Person.enter(scene, 'keys', front.origin)
  await alice.startDirect('keys-peer')
  await alice.type('one')
  await alice.type('two')
  await until('both are sent', async () => (await alice.messageOf('two'))?.status === 'sent')
  const { keyboard } = alice.page
  const isAt = (/** @type {string} */ seq) => until(`the keyboard is at ${seq}`, async () => (await focusedSeq(alice)) === seq, { seen: () => focusedSeq(alice) })
  await alice.page.getByTestId('messages').focus()
  await keyboard.press('ArrowUp')
  await isAt('2')
  await tabTo(alice, '[data-testid="react"][data-reaction="👍"]')
  await keyboard.press('Enter')
  await tabTo(alice, '[data-testid="reaction"]')
  await keyboard.press('Enter')
  await alice.page.getByTestId('reaction').waitFor({ state: 'detached' })
  await isAt('2')
  await tabTo(alice, '[data-testid="recall"]')
  await keyboard.press('Enter')
  await keyboard.press('Enter')
  await until('it is taken back', () => alice.messageOf('You recalled a message'))
  await isAt('2')
  await keyboard.press('ArrowUp')
  await isAt('1')
})

scenario('who listens is told what others write, edit and take back', async (scene) => {
  const listener = await Person.enter(scene, 'listens', front.origin)
  const conversation = await listener.startDirect('speaks')
  const speaker = await SdkPage.open(scene, 'speaks', front.origin)
  const says = (/** @type {string} */ words) => {
    const now = () => listener.page.getByTestId('announcer').innerText()
    return until(`it says "${words}"`, async () => (await now()) === words, { seen: now })
  }
  await speaker.page.evaluate((id) => window.chat.send(id, { text: 'hello' }), conversation)
  await says('speaks: hello')
  await speaker.page.evaluate((id) => window.chat.edit(id, 1, { text: 'hello there' }), conversation)
  await says('speaks: hello there (edited)')
  await speaker.page.evaluate((id) => window.chat.recall(id, 1), conversation)
  await says('speaks recalled a message')
})

scenario('a list whose newest message is not known does not say that nothing was written', async (scene) => {
  const writer = await SdkPage.open(scene, 'rewrites', front.origin)
  const away = await Person.enter(scene, 'looks-away', front.origin)
  await away.online()
  const group = await writer.page.evaluate(() => window.chat.groups.create({ title: 'geese', members: ['looks-away', 'third'] }))
  const preview = away.line(group).locator('.conversation-preview')
  await until('nothing was written', async () => (await preview.innerText()) === 'Nothing written yet')
  await writer.page.evaluate((group) => window.chat.send(group, { text: 'one' }), group)
  await until('one was written', async () => (await preview.innerText()) === 'rewrites: one')
  await away.page.goto('about:blank')
  await writer.page.evaluate(async (group) => {
    for (let at = 0; at < 210; at++) await window.chat.edit(group, 1, { text: `text ${at}` })
  }, group)
  await away.page.goto(`${front.origin}/demo/?user=looks-away&debug`)
  await away.ready()
  await away.online()
  await until('what is there is not known', async () => (await away.conversation(group))?.last === undefined)
  await until('and the list says nothing of it', async () => (await preview.innerText()) === '', { seen: () => preview.innerText() })
})
