// @ts-check
/** The demo by its own fields and buttons: signing in and out, a group, a message that is refused. */

import assert from 'node:assert/strict'

import { newPage, newProfile } from './harness/chromium.mjs'
import { Person } from './harness/demo.mjs'
import { Front } from './harness/front.mjs'
import { Proxy } from './harness/proxy.mjs'
import { Relay } from './harness/relay.mjs'
import { UNREACHABLE, scenario } from './harness/scene.mjs'
import { until } from './harness/wait.mjs'

scenario('signing in says when it can’t, works when it can, and signing out leaves nothing behind', async (scene) => {
  scene.expect(...UNREACHABLE)
  const relay = await Relay.start(scene)
  const front = await Front.open(scene, () => relay.port)
  await relay.kill()
  const profile = await newProfile(scene)
  const page = await newPage(scene, profile, 'alice')
  await page.goto(`${front.origin}/demo/?debug`)
  await page.getByTestId('sign-in-name').fill('alice')
  await page.getByTestId('sign-in-submit').click()
  await until('the problem is told', async () => (await page.getByTestId('sign-in-problem').innerText()).trim() !== '')

  await relay.start()
  await page.getByTestId('sign-in-submit').click()
  const alice = new Person(scene, profile, page, 'alice', front.origin)
  await alice.ready()
  await alice.online()
  const conversation = await alice.startDirect('bob')
  await alice.type('a secret')
  await until('it is cached', async () => (await alice.cache())?.messages.length === 1)
  assert.equal((await alice.conversation(conversation))?.last?.body.text, 'a secret')

  // The same tab comes back as alice by itself.
  await alice.reload()
  await until('the message is in sight again', () => alice.messageOf('a secret'))

  await page.getByTestId('sign-out').click()
  await page.getByTestId('sign-in-name').waitFor()
  const cache = await alice.cache()
  assert.deepEqual([cache?.messages ?? [], cache?.outbox ?? [], cache?.conversations ?? []], [[], [], []])
  await page.reload()
  await page.getByTestId('sign-in-name').waitFor()
  assert.ok(!(await page.content()).includes('a secret'))
})

scenario('a message that is refused says so, stays, and can be tried again or discarded', async (scene) => {
  const relay = await Relay.start(scene)
  const network = await Proxy.open(scene, () => relay.port)
  const alice = await Person.enter(scene, 'alice', relay.origin)
  const bob = await Person.enter(scene, 'bob', network.origin)
  await alice.page.getByTestId('new-group').click()
  await alice.page.getByTestId('new-group-title').fill('Geese')
  await alice.page.getByTestId('new-group-members').fill('bob, carol')
  await alice.page.getByTestId('new-group-submit').click()
  await alice.type('welcome')
  const line = bob.page.getByTestId('conversation')
  await until('bob’s list has the group', async () => (await line.count()) === 1)
  assert.match(await line.innerText(), /Geese/)
  const group = (await line.getAttribute('data-id')) ?? ''
  await bob.openConversation(group)
  await until('bob reads it', () => bob.messageOf('welcome'))

  // Bob is removed while his network is silent: what he writes is refused when it is back.
  const members = (/** @type {'add' | 'remove'} */ change) =>
    alice.page.evaluate(({ group, change }) => {
      const { chat } = /** @type {NonNullable<typeof window.hongyanDemo>} */ (window.hongyanDemo)
      return chat.groups[change](group, ['bob'])
    }, { group, change })
  network.cut()
  await members('remove')
  await bob.type('am I still here?')
  await bob.type('hello?')
  await until('both wait', async () => (await bob.messageOf('hello?'))?.status === 'sending')
  network.heal()
  for (const text of ['am I still here?', 'hello?']) {
    await until(`"${text}" is refused`, async () => (await bob.messageOf(text))?.status === 'failed', { seen: () => bob.look() })
  }
  await bob.reload()
  await until('they stay refused', async () => (await bob.messages()).filter((message) => message.status === 'failed').length === 2, { seen: () => bob.look() })

  const row = (/** @type {string} */ text) => bob.page.getByTestId('message').filter({ hasText: text })
  await row('hello?').getByTestId('discard').click()
  await until('it is gone', async () => (await bob.messageOf('hello?')) === undefined)
  await members('add')
  await bob.page.getByTestId('composer').waitFor()
  await row('am I still here?').getByTestId('retry').click()
  await until('it is sent', async () => (await bob.messageOf('am I still here?'))?.status === 'sent', { seen: () => bob.look() })
  await until('alice sees it', () => alice.messageOf('am I still here?'))
  await bob.reload()
  await until('bob sees it again', () => bob.messageOf('am I still here?'))
  assert.equal(await bob.messageOf('hello?'), undefined)
  assert.deepEqual((await bob.history(group)).map((message) => [message.seq, message.body.text]), [[1, 'welcome'], [2, 'am I still here?']])
})
