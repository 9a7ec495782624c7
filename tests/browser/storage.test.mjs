// @ts-check
/** The cache in IndexedDB: where it can't be had, where it is another's, where it fails, where the page ends. */

import assert from 'node:assert/strict'
import { after, before } from 'node:test'

import { newProfile } from './harness/chromium.mjs'
import { Front } from './harness/front.mjs'
import { assertWhole } from './harness/log.mjs'
import { Relay } from './harness/relay.mjs'
import { Scene, UNREACHABLE, scenario } from './harness/scene.mjs'
import { SdkPage } from './harness/sdk.mjs'
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

/** Ways for IndexedDB to fail from the start. @type {[string, () => void][]} */
const BROKEN = [
  ['is missing', () => Object.defineProperty(window, 'indexedDB', { value: undefined })],
  ['throws when touched', () => Object.defineProperty(window, 'indexedDB', { get() { throw new DOMException('Site data is blocked.', 'SecurityError') } })],
  ['throws at open', () => { IDBFactory.prototype.open = () => { throw new DOMException('Not now.', 'UnknownError') } }],
  ['never answers', () => { IDBFactory.prototype.open = () => /** @type {any} */ (new EventTarget()) }],
  ['opens with an error', () => {
    const open = IDBFactory.prototype.open
    IDBFactory.prototype.open = function (/** @type {string} */ name) {
      const request = open.call(this, name, 2)
      request.addEventListener('upgradeneeded', () => request.transaction?.abort())
      return request
    }
  }],
]

for (const [how, breakIt] of BROKEN) {
  scenario(`where IndexedDB ${how}, it works from memory and says so`, async (scene) => {
    const profile = await newProfile(scene)
    await profile.addInitScript(breakIt)
    const alice = await SdkPage.open(scene, 'forgetful', front.origin, { profile })
    assert.equal((await alice.state()).storage, 'memory')
    await alice.online()
    const seen = await alice.page.evaluate(async () => {
      const conversation = await window.chat.direct('bob')
      const sent = await window.chat.send(conversation, { text: 'from memory' })
      return (await window.chat.history(conversation)).some((message) => message.key === sent.key)
    })
    assert.ok(seen)
    await until('the event', async () => (await alice.events('message')).some((message) => message.body.text === 'from memory'))
  })
}

scenario('when IndexedDB fails later, it goes on in memory, says so and loses nothing', async (scene) => {
  const alice = await SdkPage.open(scene, 'unlucky', front.origin)
  const conversation = await alice.page.evaluate(async () => {
    const id = await window.chat.direct('bob')
    await window.chat.send(id, { text: 'durable' })
    return id
  })
  assert.equal((await alice.state()).storage, 'indexeddb')
  await alice.page.evaluate(() => {
    IDBObjectStore.prototype.put = () => {
      throw new DOMException('The disk is full.', 'QuotaExceededError')
    }
  })
  const sent = await alice.page.evaluate((id) => window.chat.send(id, { text: 'afterwards' }), conversation)
  assert.equal(sent.seq, 2)
  await until('it says so', async () => (await alice.state()).storage === 'memory', { seen: () => alice.state() })
  assert.ok((await alice.events('state')).some((state) => state.storage === 'memory'))
  await until('both events came', async () => (await alice.events('message')).length === 2)
  assertWhole(await alice.page.evaluate((id) => window.chat.history(id), conversation), 2)
})

/** The version of the databases of this version. */
const VERSION = 4

/** Databases that this version can't use; each gets the database's name. @type {[string, (database: { name: string, version: number }) => Promise<void>][]} */
const FOREIGN = [
  ['of an older version', ({ name }) => new Promise((resolve, reject) => {
    const opening = indexedDB.open(name, 2)
    opening.onupgradeneeded = () => {
      for (const store of ['meta', 'conversations', 'messages', 'outbox', 'writers', 'told']) opening.result.createObjectStore(store)
      opening.transaction?.objectStore('messages').put(new Uint8Array([10, 1, 120, 16, 1]), ['x', 1])
      opening.transaction?.objectStore('writers').put(7, 'term')
    }
    opening.onerror = reject
    opening.onsuccess = () => {
      opening.result.close()
      resolve()
    }
  })],
  ['of a newer version', ({ name }) => new Promise((resolve, reject) => {
    const opening = indexedDB.open(name, 99)
    opening.onupgradeneeded = () => {
      opening.result.createObjectStore('meta')
      opening.result.createObjectStore('something', { keyPath: 'id' }).put({ id: 1 })
    }
    opening.onerror = reject
    opening.onsuccess = () => {
      opening.result.close()
      resolve()
    }
  })],
  ['without its stores', ({ name, version }) => new Promise((resolve, reject) => {
    const opening = indexedDB.open(name, version)
    opening.onupgradeneeded = () => opening.result.createObjectStore('meta')
    opening.onerror = reject
    opening.onsuccess = () => {
      opening.result.close()
      resolve()
    }
  })],
  ['full of garbage', ({ name, version }) => new Promise((resolve, reject) => {
    const opening = indexedDB.open(name, version)
    const bytes = new Uint8Array([255, 255, 255, 255, 7, 8, 9])
    opening.onupgradeneeded = () => {
      opening.result.createObjectStore('meta').put(bytes, 'meta')
      opening.result.createObjectStore('conversations').put('no bytes', 'x')
      opening.result.createObjectStore('messages').put(bytes, ['x', 1, 1])
      opening.result.createObjectStore('outbox').put(bytes, 1)
      opening.result.createObjectStore('writers').put('many', 'term')
    }
    opening.onerror = reject
    opening.onsuccess = () => {
      opening.result.close()
      resolve()
    }
  })],
]

for (const [what, make] of FOREIGN) {
  scenario(`a database ${what} is dropped and made anew`, async (scene) => {
    const user = `heir-${what.replaceAll(' ', '-')}`
    const before = await SdkPage.open(scene, user, front.origin, { device: ' elsewhere' })
    await before.page.evaluate(async () => window.chat.send(await window.chat.direct('bob'), { text: 'inherited' }))
    const alice = await SdkPage.open(scene, user, front.origin, { connect: false })
    const name = `hongyan:${front.origin.replace('http', 'ws')}/ws ${user}`
    await alice.page.evaluate(make, { name, version: VERSION })
    await alice.connect()
    assert.equal((await alice.state()).storage, 'indexeddb')
    await alice.online()
    await until('the cache is rebuilt', async () => {
      const cache = await alice.cache()
      return cache?.messages.length === 1 && cache.outbox.length === 0 && cache.conversations.length === 1 && (cache.cursor ?? 0) > 0
    }, { seen: () => alice.cache() })
    assert.deepEqual(await alice.page.evaluate(async () => (await indexedDB.databases()).map((one) => [one.name, one.version])), [[name, VERSION]])
  })
}

/**
 * In the page: the database becomes one of another version, with the stores that this version of it has; what is in them
 * stays as it is.
 * @param {{ name: string, version: number, lacks: string[] }} as
 */
async function becomeOf({ name, version, lacks }) {
  /** @type {<T>(request: IDBRequest<T>) => Promise<T>} */
  const answer = (request) =>
    new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result)
      request.onerror = () => reject(request.error)
    })
  const before = await answer(indexedDB.open(name))
  const stores = Array.from(before.objectStoreNames).filter((store) => !lacks.includes(store))
  const reading = before.transaction(stores)
  const contents = await Promise.all(stores.map((store) => Promise.all([answer(reading.objectStore(store).getAllKeys()), answer(reading.objectStore(store).getAll())])))
  before.close()
  await answer(indexedDB.deleteDatabase(name))
  const opening = indexedDB.open(name, version)
  opening.onupgradeneeded = () => {
    stores.forEach((store, index) => {
      const made = opening.result.createObjectStore(store)
      const [keys = [], records = []] = contents[index] ?? []
      keys.forEach((key, at) => made.put(records[at], key))
    })
  }
  const after = await answer(opening)
  after.close()
}

/** What may be there when this version comes, or comes back. @type {{ what: string, version: number, lacks: string[], keeps: boolean }[]} */
const OTHERS = [
  { what: 'the version before', version: 3, lacks: ['profiles'], keeps: true },
  { what: 'an older version', version: 2, lacks: ['profiles', 'told'], keeps: false },
  { what: 'a newer version', version: 99, lacks: [], keeps: false },
]

for (const { what, version, lacks, keeps } of OTHERS) {
  scenario(`a message that waits in a database of ${what} is sent, once`, async (scene) => {
    scene.expect(...UNREACHABLE)
    const relay = await Relay.start(scene)
    const front = await Front.open(scene, () => relay.port)
    const alice = await SdkPage.open(scene, 'upgrader', front.origin)
    await alice.online()
    const conversation = await alice.page.evaluate(async () => {
      const id = await window.chat.direct('bob')
      await window.chat.send(id, { text: 'sent' })
      return id
    })
    await until('the cache has it', async () => (await alice.cache())?.messages.length === 1 && (await alice.cache())?.outbox.length === 0, { seen: () => alice.cache() })
    await relay.kill()
    await alice.page.evaluate((id) => void window.chat.send(id, { text: 'waits' }).catch(() => undefined), conversation)
    await until('it waits', async () => (await alice.cache())?.outbox.length === 1, { seen: () => alice.cache() })
    const key = (await alice.cache())?.outbox[0]?.key

    await alice.load(front.origin)
    const name = `hongyan:${front.origin.replace('http', 'ws')}/ws ${alice.user}`
    await alice.page.evaluate(becomeOf, { name, version, lacks })
    // It is kept before anybody can be asked, and through another reload.
    for (let time = 1; time <= 2; time++) {
      await alice.connect()
      assert.equal((await alice.state()).storage, 'indexeddb')
      await until('it still waits', async () => (await alice.cache())?.outbox[0]?.key === key, { seen: () => alice.cache() })
      assert.equal((await alice.cache())?.messages.length, keeps ? 1 : 0)
      await alice.load(front.origin)
    }
    await relay.start()
    await alice.connect()
    await alice.online()
    await until('it is sent', async () => (await alice.cache())?.outbox.length === 0, { seen: () => alice.cache() })
    const log = await alice.page.evaluate((id) => window.chat.history(id), conversation)
    assert.deepEqual(log.map(({ seq, body }) => [seq, body.text]), [[1, 'sent'], [2, 'waits']])
    assert.equal(log[1]?.key, key)
    assert.deepEqual(await alice.events('gap'), [])
  })
}

scenario('what came while nobody was there is cached in few records, and is whole wherever a reload cuts it', async (scene) => {
  const alice = await SdkPage.open(scene, 'absent', front.origin)
  await alice.online()
  await alice.page.evaluate(() => window.chat.close())
  const bob = await SdkPage.open(scene, 'bob-of-absent', front.origin)
  const count = 300
  await bob.page.evaluate(async (count) => {
    const ids = [await window.chat.direct('absent'), await window.chat.groups.create({ title: 'Geese', members: ['absent'] })]
    for (let n = 1; n <= count; n++) await Promise.all(ids.map((id) => window.chat.send(id, { text: `${n}` })))
  }, count)
  for (const wait of [0, 5, 15, 40]) {
    await alice.load(front.origin)
    void alice.page.evaluate((user) => window.hongyan.connect({ user, token: async () => (await fetch(`/dev/token?user=${user}`)).text() }), alice.user).catch(() => undefined)
    await new Promise((resolve) => setTimeout(resolve, wait))
  }
  await alice.load(front.origin)
  await alice.connect()
  await alice.online()
  await until('all is in the cache', async () => (await alice.cache())?.messages.length === 2 * count, { seen: async () => (await alice.cache())?.messages.length })
  const cache = await alice.cache()
  assert.ok((cache?.records ?? Infinity) <= 100, `${cache?.records} records of messages`)
  // What is read is the cache's: the page has no network any more.
  scene.expect(...UNREACHABLE)
  const context = alice.page.context()
  await alice.load(front.origin)
  await alice.page.evaluate(async () => {
    window.kept.wasm = await (await fetch('/sdk/hongyan/wasm/hongyan_bg.wasm')).arrayBuffer()
  })
  await context.setOffline(true)
  const seqs = await alice.page.evaluate(async () => {
    window.chat = await window.hongyan.connect({ user: 'absent', token: 'none', wasm: window.kept.wasm })
    const lists = []
    for (const { id } of await window.chat.conversations()) {
      const list = []
      for (let before; before === undefined || before > 1; before = list[0]) {
        const page = await window.chat.history(id, before === undefined ? { limit: 90 } : { before, limit: 90 })
        list.unshift(...page.map(({ seq }) => seq))
      }
      lists.push(list)
    }
    return lists
  })
  const all = Array.from({ length: count }, (_, index) => index + 1)
  assert.deepEqual(seqs, [all, all])
})

scenario('a send in the moment of a reload survives it', async (scene) => {
  const alice = await SdkPage.open(scene, 'hasty', front.origin)
  await alice.online()
  for (let round = 1; round <= 5; round++) {
    await until('the cache is at rest', async () => {
      const cache = await alice.cache()
      return cache !== undefined && cache.epoch !== '' && cache.outbox.length === 0 && cache.messages.length === round - 1
    }, { seen: () => alice.cache() })
    const loaded = alice.page.waitForEvent('load')
    await alice.page.evaluate((round) => {
      window.chat.direct('bob').then((id) => {
        void window.chat.send(id, { text: `round ${round}` })
        location.reload()
      })
    }, round)
    await loaded
    await alice.load(front.origin)
    await alice.connect()
    await alice.online()
    await until(`round ${round} is in the log`, () => alice.page.evaluate(async (round) => (await window.chat.history(await window.chat.direct('bob'))).filter((message) => message.seq > 0).length === round, round), { within: 5_000 })
  }
})

scenario('what a page has not saved when it ends is saved', async (scene) => {
  scene.expect(...UNREACHABLE)
  const relay = await Relay.start(scene)
  const front = await Front.open(scene, () => relay.port)
  const alice = await SdkPage.open(scene, 'hastier', front.origin)
  await alice.online()
  await relay.kill()
  // All in one turn of the page: the first save is under way, and what was written since waits for its end. The page itself
  // stays, so the browser drops nothing.
  const conversation = await alice.page.evaluate(async () => {
    const id = await window.chat.direct('bob')
    for (const text of ['a', 'b', 'c']) void window.chat.send(id, { text }).catch(() => undefined)
    dispatchEvent(new PageTransitionEvent('pagehide'))
    return id
  })
  await until('all three are in the outbox', async () => (await alice.cache())?.outbox.length === 3, { seen: () => alice.cache() })
  await relay.start()
  await alice.load(front.origin)
  await alice.connect()
  await alice.online()
  const log = () => alice.page.evaluate(async (id) => (await window.chat.history(id)).filter(({ seq }) => seq > 0).map(({ body }) => body.text), conversation)
  await until('they are sent', async () => (await log()).length === 3, { seen: log })
  assert.deepEqual(await log(), ['a', 'b', 'c'])
})
