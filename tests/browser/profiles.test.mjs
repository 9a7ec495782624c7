// @ts-check
/** Profiles: one's own from any tab, others' by the queue and by asking, from the cache; and names in the demo. */

import assert from 'node:assert/strict'
import { after, before } from 'node:test'

import { Person } from './harness/demo.mjs'
import { Front } from './harness/front.mjs'
import { Relay } from './harness/relay.mjs'
import { Scene, scenario } from './harness/scene.mjs'
import { SdkPage } from './harness/sdk.mjs'
import { TabGroup } from './harness/tabs.mjs'
import { until } from './harness/wait.mjs'

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

/** A name that only this test uses. @param {string} name */
const fresh = (name) => `${name}-${Math.random().toString(36).slice(2, 8)}`

/** @param {SdkPage} page @param {string} user */
const get = (page, user) => page.page.evaluate((user) => window.chat.profiles.get(user), user)

/** @param {SdkPage} page @param {{ name?: string, avatar?: string }} changes */
const set = (page, changes) => page.page.evaluate((changes) => window.chat.profiles.set(changes), changes)

/** What a page was told of profiles, in order: `alice#1 Alice`. @param {SdkPage} page */
async function told(page) {
  return (await page.events('profile')).map(({ user, version, name }) => `${user}#${version} ${name}`)
}

scenario('from any tab, to each of both users’ tabs once, and from the cache', async (scene) => {
  const [alice, bob] = [fresh('alice'), fresh('bob')]
  const tabs = await TabGroup.open(scene, alice, front.origin, 2)
  const leader = await tabs.leader()
  const follower = /** @type {SdkPage} */ (tabs.tabs.find((tab) => tab !== leader))
  const others = await TabGroup.open(scene, bob, front.origin, 2)
  await others.leader()
  const conversation = await leader.page.evaluate((bob) => window.chat.direct(bob), bob)
  await leader.page.evaluate((conversation) => window.chat.send(conversation, { text: 'hi' }), conversation)

  assert.deepEqual(await get(follower, bob), { user: bob, version: 0 })
  const first = await set(follower, { name: 'Alice', avatar: 'https://example.com/a.png' })
  assert.ok(Number(first.time) > 0)
  assert.deepEqual({ ...first, time: 0 }, { user: alice, name: 'Alice', avatar: 'https://example.com/a.png', version: 1, time: 0 })
  const second = await set(leader, { name: 'Alice the goose' })
  assert.equal(second.avatar, 'https://example.com/a.png')
  const third = await set(leader, { avatar: '' })
  assert.deepEqual([third.name, third.avatar, third.version], ['Alice the goose', undefined, 3])
  const all = [`${alice}#1 Alice`, `${alice}#2 Alice the goose`, `${alice}#3 Alice the goose`]
  for (const page of [...tabs.tabs, ...others.tabs]) {
    await until('all are told', async () => (await told(page)).length >= 3, { seen: () => told(page) })
    assert.deepEqual(await told(page), all)
  }
  for (const page of others.tabs) assert.deepEqual(await get(page, alice), await get(leader, alice))

  // A new tab has it from the cache, and is told of nothing that is not new.
  for (const page of [...others.tabs]) {
    await page.page.close()
    others.forget(page)
  }
  const cached = await others.openTab()
  assert.equal((await get(cached, alice)).name, 'Alice the goose')
  await others.leader()
  assert.deepEqual(await told(cached), [])
  await assert.rejects(set(cached, { name: 'x'.repeat(1_000) }), /The request is malformed/)
})

scenario('only who shares a conversation sees it', async (scene) => {
  const [alice, bob, carol] = [fresh('alice'), fresh('bob'), fresh('carol')]
  const [a, b, c] = await Promise.all([alice, bob, carol].map((user) => SdkPage.open(scene, user, front.origin)))
  assert.ok(a && b && c)
  await set(a, { name: 'Alice' })
  assert.equal((await get(b, alice)).version, 0)
  await a.page.evaluate((bob) => window.chat.groups.create({ title: 'Geese', members: [bob] }), bob)
  await until('bob is in the group', async () => (await b.events('group')).length > 0)
  await until('he sees her name', async () => (await get(b, alice)).name === 'Alice', { seen: () => get(b, alice) })
  assert.equal((await get(c, alice)).version, 0)
  // Who writes to somebody is introduced with the first message.
  await c.page.evaluate(async (alice) => window.chat.send(await window.chat.direct(alice), { text: 'hi' }), alice)
  await until('carol is told', async () => (await told(c)).length > 0, { seen: () => told(c) })
  assert.deepEqual(await told(c), [`${alice}#1 Alice`])
})

scenario('the demo: one renames herself, the other sees it in the list, in the conversation and after a reload', async (scene) => {
  const [a, b] = [fresh('alice'), fresh('bob')]
  const alice = await Person.enter(scene, a, relay.origin)
  const bob = await Person.enter(scene, b, relay.origin)
  const conversation = await alice.startDirect(b)
  await alice.type('hello')
  await bob.line(conversation).waitFor()
  assert.match(await bob.line(conversation).innerText(), new RegExp(a))
  await alice.page.getByTestId('you').click()
  await alice.page.getByTestId('name').fill('鸿雁 Alice')
  await alice.page.getByTestId('name').press('Enter')
  await until('her own page shows it', async () => (await alice.page.getByTestId('own-name').innerText()) === '鸿雁 Alice')
  await until('bob sees it in the list', async () => (await bob.line(conversation).innerText()).includes('鸿雁 Alice'))
  await bob.openConversation(conversation)
  await until('and above the conversation', async () => (await bob.page.getByTestId('conversation-pane').getAttribute('aria-label')) === '鸿雁 Alice')
  await bob.reload()
  await until('also after a reload', async () => (await bob.line(conversation).innerText()).includes('鸿雁 Alice'))

  // In a group, with its members.
  await bob.page.evaluate(({ a }) => /** @type {any} */ (window.hongyanDemo).chat.groups.create({ title: 'Geese', members: [a] }), { a })
  const group = bob.page.locator('[data-testid="conversation"][data-kind="group"]')
  await group.click()
  await bob.page.getByTestId('members').click()
  const member = bob.page.locator(`[data-testid="member"][data-user="${a}"]`)
  await until('the members’ list has the name', async () => (await member.innerText()).includes('鸿雁 Alice'))
  await bob.page.keyboard.press('Escape')
  await alice.page.keyboard.press('Escape')
  await alice.page.locator('[data-testid="conversation"][data-kind="group"]').click()
  await alice.type('honk')
  await until('and so has what she wrote', async () => (await bob.page.getByTestId('sender').allInnerTexts()).includes('鸿雁 Alice'))
})
