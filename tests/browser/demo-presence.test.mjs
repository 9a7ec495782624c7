// @ts-check
/** The demo shows who is there and who writes, and how its tabs, its network and its session can end. */

import assert from 'node:assert/strict'

import { newProfile } from './harness/chromium.mjs'
import { Person } from './harness/demo.mjs'
import { Devtools } from './harness/devtools.mjs'
import { Front } from './harness/front.mjs'
import { Relay } from './harness/relay.mjs'
import { UNREACHABLE, scenario } from './harness/scene.mjs'
import { until } from './harness/wait.mjs'

/** A relay that has nobody to wait for after its start, and notices silence soon. */
const SETTINGS = { HONGYAN_PRESENCE_RECOVERY_MS: '0', HONGYAN_TIMERS_PING_INTERVAL_MS: '400', HONGYAN_TIMERS_SILENCE_MS: '1500' }

/**
 * A relay, and alice on a wide screen.
 * @param {import('./harness/scene.mjs').Scene} scene
 * @param {Record<string, string>} [settings]
 */
async function start(scene, settings = {}) {
  const relay = await Relay.start(scene, { ...SETTINGS, ...settings })
  const front = await Front.open(scene, () => relay.port)
  const alice = await Person.enter(scene, 'alice', front.origin, { profile: await newProfile(scene, { viewport: { width: 1400, height: 900 } }) })
  await alice.online()
  return alice
}

/**
 * Alice and bob have written to each other; bob looks at his list.
 * @param {import('./harness/scene.mjs').Scene} scene
 */
async function twoPeople(scene) {
  const alice = await start(scene)
  const bob = await Person.enter(scene, 'bob', alice.origin)
  const conversation = await alice.startDirect('bob')
  await alice.type('hello')
  await bob.openConversation(conversation)
  await bob.sees(conversation, 'online')
  await alice.sees(conversation, 'online')
  return { alice, bob, conversation }
}

/**
 * Pages of this Chromium are all in sight, so the page is told otherwise (hidden.test.mjs hides for real).
 * @param {Person} person
 * @param {boolean} hidden
 */
function hide(person, hidden) {
  return person.page.evaluate((hidden) => {
    Object.defineProperty(document, 'visibilityState', { configurable: true, value: hidden ? 'hidden' : 'visible' })
    Object.defineProperty(document, 'hidden', { configurable: true, value: hidden })
    document.dispatchEvent(new Event('visibilitychange'))
  }, hidden)
}

/** @param {Person} person */
async function openLab(person) {
  await person.page.getByTestId('lab-toggle').click()
  await person.page.getByTestId('lab-tabs').waitFor()
}

scenario('dots and words: online, away, invisible, gone; and who writes', async (scene) => {
  const { alice, bob, conversation } = await twoPeople(scene)
  assert.equal(await bob.subtitle(), 'online')
  await hide(alice, true)
  await bob.sees(conversation, 'away background')
  assert.match(await bob.subtitle(), /^away since \d\d:\d\d$/)
  await hide(alice, false)
  await bob.sees(conversation, 'online')

  // Who writes is told under the heading and in the list, until the message is there.
  const writes = () =>
    until('bob sees that alice writes', async () => {
      // Shortly after a message it is not told at every key.
      await alice.page.getByTestId('composer').pressSequentially('h')
      return (await bob.subtitle()) === 'is typing…'
    })
  await writes()
  assert.equal(await bob.line(conversation).getByTestId('typing-in-list').innerText(), 'is typing…')
  await alice.type('I was away')
  await until('it is written', () => bob.messageOf('I was away'))
  await until('nobody writes any more', async () => (await bob.subtitle()) === 'online')
  assert.equal(await bob.line(conversation).getByTestId('typing-in-list').count(), 0)
  await writes()
  await until('it ceases by itself', async () => (await bob.subtitle()) === 'online')

  await alice.page.getByTestId('you').click()
  await alice.page.getByTestId('invisible').click()
  await until('the switch is on', async () => (await alice.page.getByTestId('invisible').getAttribute('aria-checked')) === 'true')
  assert.match(await alice.page.getByTestId('state').innerText(), /invisible/)
  await until('bob sees her offline', async () => /^offline/.test((await bob.dot(conversation)) ?? ''), { seen: () => bob.dot(conversation) })
  await alice.page.getByTestId('invisible').click()
  await bob.sees(conversation, 'online')
  await alice.page.getByTestId('dialog-close').click()

  // A reload never shows as offline; closing the page does.
  await openLab(bob)
  await bob.page.getByTestId('lab-clear').click()
  await alice.reload()
  await alice.online()
  await bob.sees(conversation, 'online')
  await alice.page.close({ runBeforeUnload: false })
  await bob.sees(conversation, 'offline closed')
  assert.match(await bob.subtitle(), /^last seen \d\d:\d\d \(closed\)$/)
  const offline = (await bob.labLog()).filter((line) => / presence alice offline/.test(line))
  assert.equal(offline.length, 1, `offline once, and not at the reload: ${await bob.labLog()}`)
  assert.match(offline.join(), /^\d\d:\d\d:\d\d\.\d\d\d presence alice offline \(closed\) since \d\d:\d\d:\d\d\.\d\d\d$/)
})

scenario('members of an open group are watched, and nobody when it is closed', async (scene) => {
  const { alice, bob } = await twoPeople(scene)
  const group = await alice.page.evaluate(() => /** @type {any} */ (window.hongyanDemo).chat.groups.create({ title: 'Geese', members: ['bob', 'carol'] }))
  const carol = await Person.enter(scene, 'carol', alice.origin)
  await bob.openConversation(group)
  await until('two others are here', async () => /3 members, 2 of the others here/.test(await bob.subtitle()), { seen: () => bob.subtitle() })
  await bob.page.getByTestId('members').click()
  const line = bob.page.getByTestId('member').and(bob.page.locator('[data-user="carol"]'))
  await until('carol is online', async () => /online/.test(await line.innerText()))
  await carol.page.close({ runBeforeUnload: false })
  await until('carol is gone', async () => /last seen \d\d:\d\d \(closed\)/.test(await line.innerText()), { seen: () => line.innerText() })
  await bob.page.getByTestId('dialog-close').click()
  await until('one is here', async () => /3 members, 1 of the others here/.test(await bob.subtitle()), { seen: () => bob.subtitle() })
  await carol.page.close()
})

scenario('the lab: tabs, who leads, a leader that freezes and one that closes', async (scene) => {
  const { alice, bob, conversation } = await twoPeople(scene)
  await openLab(alice)
  await until('one tab leads', async () => (await alice.labTabs()).map(({ leads }) => leads).join() === 'true')
  const second = await alice.opened(() => alice.page.getByTestId('lab-open').click(), ' 2')
  await second.online()
  const both = (/** @type {Person} */ person) => until('both tabs are listed, the first leads', async () => (await person.labTabs()).map(({ leads }) => leads).join() === 'true,false', { seen: () => person.labTabs() })
  await both(alice)
  await both(second)
  assert.deepEqual(await second.labTabs(), await alice.labTabs())
  assert.match(await alice.page.getByTestId('lab-this').innerText(), /leads/)
  assert.match(await second.page.getByTestId('lab-this').innerText(), /follows/)

  // Frozen, the first loses the lead; what is written meanwhile is sent by the second.
  await second.openConversation(conversation)
  const frozen = second.page.locator('[data-testid="lab-tab"][data-frozen="true"]')
  let froze = 0
  await until('the second leads', async () => {
    if ((await second.state())?.leader) return true
    // On a machine that is too busy to write while the leader is frozen, it is frozen once more.
    if ((await frozen.count()) === 0) {
      await second.page.getByTestId('lab-freeze').click()
      await frozen.waitFor()
      await second.type(`somebody froze ${++froze}`)
    }
    return false
  }, { within: 40_000, seen: () => second.labTabs() })
  await until('bob reads it', () => bob.messageOf(`somebody froze ${froze}`))
  await until('the first follows', async () => (await alice.labTabs()).map(({ leads }) => leads).join() === 'false,true', { seen: () => alice.labTabs() })

  // Told to close, the second goes; the first leads again, and bob never saw alice go.
  const gone = second.page.waitForEvent('close')
  await alice.page.getByTestId('lab-close').click()
  await gone
  await until('the first leads', async () => (await alice.labTabs()).map(({ leads }) => leads).join() === 'true', { seen: () => alice.labTabs() })
  await alice.online()
  await alice.openConversation(conversation)
  await alice.type('somebody left')
  await until('bob reads that', () => bob.messageOf('somebody left'))
  await bob.sees(conversation, 'online')
  const log = (await alice.labLog()).join('\n')
  assert.match(log, / tab [0-9a-f]{4} came/)
  assert.match(log, / tab [0-9a-f]{4} was frozen for 5000 ms/)
  assert.match(log, / leader [0-9a-f]{4} leads no more/)
  assert.match(log, / tab [0-9a-f]{4} (went|fell)/)
  assert.doesNotMatch(log, /somebody/, 'no text of a message')
  await alice.profile.grantPermissions(['clipboard-read', 'clipboard-write'])
  await alice.page.getByTestId('lab-copy').click()
  await alice.page.getByText('Copied', { exact: true }).waitFor()
  const copied = await alice.page.evaluate(() => navigator.clipboard.readText())
  assert.match(copied, /^tab [0-9a-f]{4} of alice, device /)
  assert.match(copied, /\n\d\d:\d\d:\d\d\.\d\d\d  tab       [0-9a-f]{4} was frozen for 5000 ms\n/)
  await alice.page.getByTestId('lab-clear').click()
  assert.deepEqual(await alice.labLog(), [])

  // The last tab may not close itself, as no page opened it; then it goes elsewhere.
  await alice.page.getByTestId('lab-close').click()
  await until('it is gone', () => alice.page.isClosed() || alice.page.url() === 'about:blank')
  await bob.sees(conversation, 'offline closed')
})

scenario('the lab in a browser that hides: away behind an empty tab, and back out of the back/forward cache', async (scene) => {
  // The relay's own page: a front's is `no-store`, which forbids that cache.
  const relay = await Relay.start(scene, SETTINGS)
  const browser = await Devtools.launch(scene)
  const bob = await Person.enter(scene, 'bob', relay.origin)
  const conversation = await bob.startDirect('alice')
  await bob.type('hello')
  const alice = await browser.openTab(`${relay.origin}/demo/?user=alice&lab&debug`)
  await bob.sees(conversation, 'online')
  const click = (/** @type {string} */ id) =>
    alice.send('Runtime.evaluate', { expression: `document.querySelector('[data-testid="${id}"]').click()`, userGesture: true })
  await until('the lab is there', () => alice.evaluate(() => document.querySelectorAll('[data-testid="lab-tab"][data-leads="true"]').length === 1))
  await click('lab-hide')
  await bob.sees(conversation, 'away background')
  await until('the lab says it too', () => alice.evaluate(() => document.querySelectorAll('[data-testid="lab-tab"][data-hidden="true"]').length === 1))
  await alice.show()
  await bob.sees(conversation, 'online')

  await alice.evaluate(() => {
    window.kept = {}
    addEventListener('pageshow', (event) => (window.kept.persisted = event.persisted))
  })
  await alice.goto(`${relay.origin}/demo/favicon.svg`)
  await alice.evaluate(() => history.back())
  await until('it is the same page, not another', () => alice.evaluate(() => window.kept?.persisted === true), { seen: () => alice.evaluate(() => [location.href, window.kept?.persisted]) })
  const second = await browser.openTab(`${relay.origin}/demo/?user=alice&lab`)
  for (const tab of [alice, second]) {
    const leads = () => tab.evaluate(() => [...document.querySelectorAll('[data-testid="lab-tab"]')].map((line) => line.getAttribute('data-leads')).join())
    await until('both are listed, the first leads', async () => (await leads()) === 'true,false', { seen: leads })
  }
})

scenario('on a phone the lab is a dialog, in both languages', async (scene) => {
  const alice = await start(scene)
  await alice.page.setViewportSize({ width: 360, height: 700 })
  for (const words of [/Try to break it.*This tab.*leads.*Cut the network/s, /来弄坏它.*这个标签页.*主持.*切断网络/s]) {
    await openLab(alice)
    const dialog = alice.page.getByRole('dialog')
    assert.match(await dialog.innerText(), words)
    assert.equal(await dialog.evaluate((element) => element.scrollWidth <= element.clientWidth && element.clientWidth <= 360), true)
    await alice.page.keyboard.press('Escape')
    await dialog.waitFor({ state: 'detached' })
    await alice.page.getByTestId('switch-language').click()
  }
  // Made wide, it is a panel beside the conversation.
  await openLab(alice)
  await alice.page.setViewportSize({ width: 1400, height: 900 })
  await alice.page.getByRole('dialog').waitFor({ state: 'detached' })
  assert.equal(await alice.page.getByTestId('lab').getAttribute('class'), 'lab')
})

scenario('the lab: a network that is cut is noticed, and what was written goes out when it heals', async (scene) => {
  scene.expect(...UNREACHABLE)
  const { alice, bob, conversation } = await twoPeople(scene)
  await openLab(alice)
  await alice.page.getByTestId('lab-cut').click()
  await alice.type('into the dark')
  await bob.sees(conversation, 'offline lost')
  assert.match(await bob.subtitle(), /^last seen \d\d:\d\d \(connection lost\)$/)
  assert.equal((await alice.messageOf('into the dark'))?.status, 'sending')

  // A tab that comes while the network is cut has none either.
  const second = await alice.opened(() => alice.page.getByTestId('lab-open').click(), ' 2')
  await second.page.getByTestId('lab-heal').click()
  await until('it is sent', async () => (await alice.messageOf('into the dark'))?.status === 'sent', { within: 40_000, seen: () => alice.look() })
  await until('bob reads it', () => bob.messageOf('into the dark'))
  await bob.sees(conversation, 'online')
  assert.deepEqual((await bob.messages()).map(({ text }) => text.trim()), ['hello', 'into the dark'])
  const log = (await alice.labLog()).join('\n')
  assert.match(log, / network cut[^]* network healed/)
})

scenario('another device is signed out from the list of one’s own', async (scene) => {
  const alice = await start(scene)
  const conversation = await alice.startDirect('bob')
  await alice.type('hello')
  const phone = await Person.enter(scene, 'alice', alice.origin, { device: "'s phone" })
  await phone.online()
  const device = await phone.page.evaluate(() => window.hongyanDemo?.chat.device)
  await alice.page.getByTestId('you').click()
  const line = alice.page.getByTestId('device').and(alice.page.locator(`[data-device="${device}"]`))
  await until('the phone is listed', async () => (await line.getAttribute('data-status')) === 'online')
  assert.equal(await alice.page.getByTestId('device-sign-out').count(), 1, 'not this device itself')
  await line.getByTestId('device-sign-out').click()

  const banner = phone.page.getByTestId('stopped-banner')
  await banner.waitFor()
  assert.equal(await banner.getAttribute('data-code'), 'logged-out')
  assert.match(await banner.innerText(), /This device was signed out\./)
  await phone.page.getByTestId('sign-in-again').click()
  await until('the phone is another device', async () => {
    const now = await phone.page.evaluate(() => window.hongyanDemo?.chat.device)
    return now !== undefined && now !== device
  })
  await phone.online()
  await until('it has the list again', () => phone.line(conversation).isVisible())
})

scenario('signed in elsewhere: the page says so, and can be used again', async (scene) => {
  const alice = await start(scene, { HONGYAN_DEVICES_WEB_MAX: '1' })
  const elsewhere = await Person.enter(scene, 'alice', alice.origin, { device: ' elsewhere' })
  const banner = alice.page.getByTestId('stopped-banner')
  await banner.waitFor()
  assert.equal(await banner.getAttribute('data-code'), 'superseded')
  assert.match(await banner.innerText(), /signed in elsewhere/)
  await alice.page.getByTestId('switch-language').click()
  assert.match(await banner.innerText(), /你已在别处登录/)
  assert.equal(await alice.page.getByTestId('sign-in-again').innerText(), '在这里使用')
  await alice.page.getByTestId('sign-in-again').click()
  await elsewhere.page.getByTestId('stopped-banner').waitFor()
  await alice.online()
})
