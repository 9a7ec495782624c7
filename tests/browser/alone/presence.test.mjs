// @ts-check
/**
 * Who is there, who is gone, and what nobody can know, as somebody in another browser sees it. How fast is measured by
 * `npm run bench`; here it is what is seen, in which order, and what must never be seen. A goodbye names twice the time
 * that the page took to load, so these tests run one at a time: a reload must take as long as the ones before it.
 */

import assert from 'node:assert/strict'
import { after, before } from 'node:test'

import { Person } from '../harness/demo.mjs'
import { Devtools } from '../harness/devtools.mjs'
import { Front } from '../harness/front.mjs'
import { Proxy } from '../harness/proxy.mjs'
import { Relay } from '../harness/relay.mjs'
import { Scene, scenario } from '../harness/scene.mjs'
import { SdkPage } from '../harness/sdk.mjs'
import { TabGroup, crash } from '../harness/tabs.mjs'
import { until } from '../harness/wait.mjs'

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

/** Somebody who watches others from a browser of her own, and notes all that she is told. */
class Watcher {
  /** @param {SdkPage} page */
  constructor(page) {
    this.page = page
  }

  /**
   * Begins a conversation with each, so that she may, and watches.
   * @param {Scene} scene
   * @param {string} user
   * @param {string[]} users
   * @param {string} [origin]
   */
  static async open(scene, user, users, origin = front.origin) {
    const page = await SdkPage.open(scene, user, origin, { device: ', who watches' })
    await page.online()
    scene.shows(`what ${user} saw`, () => page.events('presence'))
    await page.page.evaluate(async (users) => {
      for (const one of users) await window.chat.send(await window.chat.direct(one), { text: 'hello' })
      window.kept.watch = await window.chat.presence.watch(users)
    }, users)
    return new Watcher(page)
  }

  /** How a user was when it began. @param {string} user */
  current(user) {
    return this.page.page.evaluate((user) => window.kept.watch.current.find((/** @type {any} */ one) => one.user === user), user)
  }

  /** @param {string} user */
  async told(user) {
    return (await this.page.events('presence')).filter((presence) => presence.user === user)
  }

  /** The statuses, one after the other. @param {string} user */
  async seen(user) {
    return (await this.told(user)).map(({ status, cause }) => (cause === undefined ? status : `${status} ${cause}`))
  }

  /**
   * @param {string} user
   * @param {string} state a status, or one with its cause
   * @param {number} [within]
   */
  async sees(user, state, within = 20_000) {
    await until(`${user} is seen ${state}`, async () => {
      const last = (await this.seen(user)).at(-1) ?? (await this.current(user))?.status
      return last === state || last?.startsWith(`${state} `)
    }, { within, seen: () => this.seen(user) })
  }

  /** Nobody was ever called offline. @param {string} user */
  async neverOffline(user) {
    assert.deepEqual((await this.seen(user)).filter((state) => state.startsWith('offline')), [], `${user} was never offline`)
  }
}

scenario('a tab that is closed leaves at once, and is offline when it did not come back', async (scene) => {
  const watcher = await Watcher.open(scene, 'bob', ['alice'])
  assert.equal((await watcher.current('alice')).status, 'unknown', 'after the relay’s start nobody is called offline')
  const alice = await Person.enter(scene, 'alice', relay.origin)
  await alice.online()
  await watcher.sees('alice', 'online')
  await alice.page.close({ runBeforeUnload: false })
  await watcher.sees('alice', 'offline')
  assert.deepEqual((await watcher.seen('alice')).slice(-3), ['online', 'leaving closed', 'offline closed'])
  const [leaving, offline] = (await watcher.told('alice')).slice(-2)
  assert.ok(leaving?.until !== undefined && leaving.since !== undefined && offline?.since !== undefined)
  const returns = leaving.until - leaving.since
  assert.ok(returns >= 500 && returns <= 4_000, `it needs ${returns} ms to come back`)
  assert.deepEqual(leaving.devices.map(({ kind, status }) => [kind, status]), [['web', 'leaving']])
  assert.deepEqual(offline.devices, [])
})

scenario('a renderer that is killed is offline as lost, without leaving', async (scene) => {
  scene.expect(/page crashed/)
  const watcher = await Watcher.open(scene, 'bob2', ['alice2'])
  const alice = await Person.enter(scene, 'alice2', relay.origin)
  await alice.online()
  await watcher.sees('alice2', 'online')
  await crash(alice.page)
  await watcher.sees('alice2', 'offline')
  assert.deepEqual((await watcher.seen('alice2')).slice(-2), ['online', 'offline lost'])
})

scenario('a network that goes silent is offline by the relay’s own bound, and online again when it heals', async (scene) => {
  scene.expect(/WebSocket connection to '[^']*' failed/, /Failed to load resource/)
  const proxy = await Proxy.open(scene, () => relay.port)
  const own = await Front.open(scene, () => proxy.port)
  const watcher = await Watcher.open(scene, 'bob3', ['alice3'])
  const alice = await SdkPage.open(scene, 'alice3', own.origin)
  await alice.online()
  await watcher.sees('alice3', 'online')
  proxy.cut()
  await watcher.sees('alice3', 'offline', 25_000)
  proxy.heal()
  await watcher.sees('alice3', 'online')
  assert.deepEqual((await watcher.seen('alice3')).slice(-3), ['online', 'offline lost', 'online'])
}, { timeout: 120_000 })

scenario('a relay that is killed leaves no ghost, and calls nobody offline who came back', async (scene) => {
  scene.expect(/WebSocket connection to '[^']*' failed/, /Failed to load resource/, /page crashed/)
  const own = await Relay.start(scene, { HONGYAN_PRESENCE_RECOVERY_MS: '8000' })
  const door = await Front.open(scene, () => own.port)
  const watcher = await Watcher.open(scene, 'bob', ['alice', 'carol'], door.origin)
  const alice = await SdkPage.open(scene, 'alice', door.origin)
  const carol = await SdkPage.open(scene, 'carol', door.origin)
  for (const user of ['alice', 'carol']) await watcher.sees(user, 'online')
  await own.kill()
  await crash(carol.page)
  await own.start()
  await alice.online()
  await watcher.sees('carol', 'offline', 30_000)
  await watcher.sees('alice', 'online')
  await watcher.neverOffline('alice')
}, { timeout: 120_000 })

scenario('a hundred reloads are never offline', async (scene) => {
  const watcher = await Watcher.open(scene, 'bob4', ['alice4'])
  const alice = await Person.enter(scene, 'alice4', relay.origin)
  await alice.online()
  await watcher.sees('alice4', 'online')
  for (let round = 0; round < 50; round++) {
    // As the browser's button does; and as a script does.
    await alice.reload()
    await alice.online()
    const loaded = alice.page.waitForEvent('load')
    await alice.page.evaluate(() => setTimeout(() => location.reload()))
    await loaded
    await alice.ready()
    await alice.online()
  }
  await watcher.sees('alice4', 'online')
  await watcher.neverOffline('alice4')
}, { timeout: 240_000 })

scenario('fifty navigations within the app, back and forward are never offline', async (scene) => {
  const watcher = await Watcher.open(scene, 'bob5', ['alice5'])
  const alice = await Person.enter(scene, 'alice5', relay.origin)
  await alice.online()
  await watcher.sees('alice5', 'online')
  const arrived = async () => {
    await alice.ready()
    await alice.online()
  }
  for (let round = 0; round < 17; round++) {
    await alice.page.evaluate((round) => setTimeout(() => location.assign(`${location.pathname}?user=alice5&debug&round=${round}`)), round)
    await alice.page.waitForURL((url) => url.searchParams.get('round') === String(round))
    await arrived()
    await alice.page.goBack()
    await arrived()
    await alice.page.goForward()
    await arrived()
  }
  await watcher.sees('alice5', 'online')
  await watcher.neverOffline('alice5')
}, { timeout: 240_000 })

scenario('closing one of three tabs is nothing to others; closing the last is', async (scene) => {
  const watcher = await Watcher.open(scene, 'bob6', ['alice6'])
  const group = await TabGroup.open(scene, 'alice6', front.origin, 3)
  await watcher.sees('alice6', 'online')
  // The one that leads, then another.
  await group.close(await group.leader())
  await group.leader()
  await group.close(/** @type {SdkPage} */ (group.tabs.at(-1)))
  await group.leader()
  await watcher.neverOffline('alice6')
  assert.equal((await watcher.seen('alice6')).includes('leaving closed'), false, 'nor leaving')
  await group.close(/** @type {SdkPage} */ (group.tabs[0]))
  await watcher.sees('alice6', 'offline')
  assert.deepEqual((await watcher.seen('alice6')).slice(-2), ['leaving closed', 'offline closed'])
})

scenario('a link to elsewhere leaves, and going back comes back', async (scene) => {
  const watcher = await Watcher.open(scene, 'bob7', ['alice7'])
  const alice = await Person.enter(scene, 'alice7', relay.origin)
  await alice.online()
  await watcher.sees('alice7', 'online')
  await alice.page.goto('about:blank')
  await watcher.sees('alice7', 'offline')
  assert.deepEqual((await watcher.seen('alice7')).slice(-2), ['leaving closed', 'offline closed'])
  await alice.page.goBack()
  await watcher.sees('alice7', 'online')
})

scenario('a mini-program that is hidden is away, then unknown; an official account is always unknown', async (scene) => {
  const own = await Relay.start(scene, { HONGYAN_PRESENCE_BACKGROUND_LEASE_MS: '2000', HONGYAN_PRESENCE_RECOVERY_MS: '0' })
  const door = await Front.open(scene, () => own.port)
  const watcher = await Watcher.open(scene, 'bob', ['mina', 'offi'], door.origin)
  const browser = await Devtools.launch(scene)
  const mina = await browser.openSdk('mina', door.origin, { deviceKind: 'miniprogram' })
  await watcher.sees('mina', 'online')
  // Hidden: the host ends its socket a moment later, and nothing is heard any more.
  await browser.openTab('about:blank')
  await watcher.sees('mina', 'away background')
  await mina.tab.send('Page.setWebLifecycleState', { state: 'frozen' })
  await watcher.sees('mina', 'unknown no-channel')
  await mina.tab.send('Page.setWebLifecycleState', { state: 'active' })
  await mina.tab.show()
  await watcher.sees('mina', 'online')
  await watcher.neverOffline('mina')

  const offi = await SdkPage.open(scene, 'offi', door.origin, { connect: false })
  await offi.connect({ deviceKind: 'official' })
  await offi.online()
  await watcher.sees('offi', 'unknown')
  await offi.page.close()
  // Something that comes later has come: so would have a guess.
  await mina.tab.close()
  await until('the other one’s goodbye', async () => (await watcher.seen('mina')).at(-1) === 'unknown no-channel', { seen: () => watcher.seen('mina') })
  await watcher.neverOffline('mina')
  await watcher.neverOffline('offi')
  assert.ok((await watcher.seen('offi')).every((state) => state.startsWith('unknown')), `${await watcher.seen('offi')}`)
})

scenario('who is no contact learns nothing; who becomes one does; the invisible are offline', async (scene) => {
  const mallory = await SdkPage.open(scene, 'mallory', front.origin)
  const alice = await SdkPage.open(scene, 'alice8', front.origin)
  await alice.online()
  await mallory.online()
  const ask = () => mallory.page.evaluate(async () => {
    window.kept.watch ??= await window.chat.presence.watch(['alice8', 'nobody-at-all'])
    return window.kept.watch.current.map((/** @type {import('hongyan').Presence} */ { user, status, since }) => [user, status, since])
  })
  assert.deepEqual(await ask(), [['alice8', 'unknown', undefined], ['nobody-at-all', 'unknown', undefined]])
  await alice.page.evaluate(async () => window.chat.send(await window.chat.direct('mallory'), { text: 'hi' }))
  await until('she is told now', async () => (await mallory.events('presence')).at(-1)?.status === 'online', { seen: () => mallory.events('presence') })
  await alice.page.evaluate(() => window.chat.presence.setInvisible(true))
  await until('she is seen offline', async () => (await mallory.events('presence')).at(-1)?.status === 'offline', { seen: () => mallory.events('presence') })
  assert.equal((await alice.state()).invisible, true)
  await alice.page.evaluate(() => window.chat.presence.setInvisible(false))
  await until('she is seen again', async () => (await mallory.events('presence')).at(-1)?.status === 'online')
})

scenario('somebody writes: told, expires, ends with the message, and no outsider hears of it', async (scene) => {
  const [alice, bob, eve] = await Promise.all(['alice9', 'bob9', 'eve9'].map((user) => SdkPage.open(scene, user, front.origin)))
  assert.ok(alice && bob && eve)
  for (const one of [alice, bob, eve]) await one.online()
  const conversation = await alice.page.evaluate(() => window.chat.direct('bob9'))
  await alice.page.evaluate((id) => window.chat.typing(id), conversation)
  await until('bob sees it', async () => (await bob.events('typing')).length === 1)
  await alice.page.evaluate((id) => window.chat.send(id, { text: 'done' }), conversation)
  await until('it ends with the message', async () => (await bob.events('typing')).length === 2)
  assert.deepEqual((await bob.events('typing')).map(({ user, typing }) => [user, typing]), [['alice9', true], ['alice9', false]])
  await bob.page.evaluate((id) => window.chat.typing(id), conversation)
  await until('it expires by itself', async () => (await alice.events('typing')).length === 2)
  await eve.page.evaluate((id) => window.chat.typing(id), conversation)
  assert.equal((await eve.events('typing')).length, 0)
  assert.equal((await alice.events('typing')).length, 2)
})
