// @ts-check
/** Groups that come by their logs, as pages see them: the same events as ever, in the log's order and each once. */

import assert from 'node:assert/strict'
import { after, before } from 'node:test'

import { Front } from './harness/front.mjs'
import { Relay } from './harness/relay.mjs'
import { Scene, scenario } from './harness/scene.mjs'
import { SdkPage } from './harness/sdk.mjs'
import { until } from './harness/wait.mjs'

/** Opens the API of this relay, and nothing else anywhere. */
const KEY = 'b8nVqYx3TzRk7WpLd2FhGm9CsJtEu4Aa6BvNcMiQ'
/** Who is further behind is told the newest messages only (`LOG_EVENTS_MAX` and `LOG_NEWEST` in `client/src/limits.rs`). */
const EVENTS_MAX = 500
const NEWEST = 50

const ground = new Scene()
/** @type {Relay} */
let relay
/** @type {Front} */
let front

before(async () => {
  relay = await Relay.start(ground, {
    HONGYAN_API_KEYS: `app:${KEY}`,
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

/**
 * As the app's own server asks.
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 */
async function api(method, path, body) {
  const response = await fetch(`${relay.origin}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${KEY}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  assert.equal(response.status, 200, await response.clone().text())
  return response.json()
}

/**
 * @param {SdkPage} page
 * @param {string} group
 * @param {number} count
 * @param {string[]} [mentions] in the first of them
 */
function write(page, group, count, mentions = []) {
  return page.page.evaluate(
    ({ group, count, mentions }) =>
      Promise.all(Array.from({ length: count }, (_, index) => window.chat.send(group, { text: `${index}` }, index === 0 ? { mentions } : {}))),
    { group, count, mentions },
  )
}

/**
 * The numbers of the messages that a page was told, once the last of them is `last`.
 * @param {SdkPage} page
 * @param {number} last
 */
async function told(page, last) {
  const seqs = async () => (await page.events('message')).map((message) => message.seq)
  await until(`${page.user} is told message ${last}`, async () => (await seqs()).at(-1) === last, { seen: seqs })
  return seqs()
}

/** @param {number} from @param {number} to */
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index)

/**
 * @param {SdkPage} page
 * @param {string} group
 */
const line = (page, group) => page.page.evaluate(async (id) => (await window.chat.conversations()).find((one) => one.id === id), group)

scenario('a group changes over to its log and back while messages go on, and no page notices', async (scene) => {
  const alice = await SdkPage.open(scene, 'l-alice', front.origin)
  const bob = await SdkPage.open(scene, 'l-bob', front.origin)
  const carol = await SdkPage.open(scene, 'l-carol', front.origin)
  const group = await alice.page.evaluate(() => window.chat.groups.create({ title: '雁群', members: ['l-bob'] }))
  assert.equal((await api('GET', `/groups/${group}`)).by_log, false)
  await write(alice, group, 2)
  const writing = write(alice, group, 40)
  await alice.page.evaluate((id) => window.chat.groups.add(id, ['l-carol']), group)
  await writing
  assert.equal((await api('GET', `/groups/${group}`)).by_log, true)
  const more = write(bob, group, 40)
  await api('PATCH', `/groups/${group}`, { diffusion: 'reference' })
  await more
  await api('PATCH', `/groups/${group}`, { diffusion: 'log' })
  await write(bob, group, 20)
  assert.deepEqual(await told(alice, 102), range(1, 102))
  assert.deepEqual(await told(bob, 102), range(1, 102))
  // Who came in between is told from there on.
  const ofCarol = await told(carol, 102)
  assert.deepEqual(ofCarol, range(ofCarol[0] ?? 0, 102))
  assert.equal((await line(alice, group))?.unread, 60)
})

scenario('who was away is told what she missed, each once, and that somebody called her', async (scene) => {
  const alice = await SdkPage.open(scene, 'm-alice', front.origin)
  const bob = await SdkPage.open(scene, 'm-bob', front.origin)
  const group = await alice.page.evaluate(() => window.chat.groups.create({ title: '雁群', members: ['m-bob', 'm-carol'] }))
  await write(alice, group, 3)
  assert.deepEqual(await told(bob, 3), range(1, 3))
  await bob.page.evaluate((id) => window.chat.markRead(id), group)
  await bob.page.evaluate(() => window.chat.close())
  await write(alice, group, 120, ['m-bob'])

  await bob.load(front.origin)
  await bob.connect()
  assert.deepEqual(await told(bob, 123), range(4, 123))
  assert.deepEqual(await bob.events('gap'), [])
  const seen = await line(bob, group)
  assert.deepEqual([seen?.unread, seen?.mentioned, seen?.lastSeq], [120, 4, 123])
  await bob.page.evaluate((id) => window.chat.markRead(id), group)
  assert.deepEqual([(await line(bob, group))?.unread, (await line(bob, group))?.mentioned], [0, undefined])
})

scenario('who was away for long is told of the gap and then the newest, and reads the rest as history', async (scene) => {
  const alice = await SdkPage.open(scene, 'n-alice', front.origin)
  const bob = await SdkPage.open(scene, 'n-bob', front.origin)
  const group = await alice.page.evaluate(() => window.chat.groups.create({ title: '雁群', members: ['n-bob', 'n-carol'] }))
  await write(alice, group, 1)
  await told(bob, 1)
  await bob.page.evaluate(() => window.chat.close())
  const last = EVENTS_MAX + 60
  await write(alice, group, last - 1)

  await bob.load(front.origin)
  await bob.connect()
  const first = last - NEWEST + 1
  assert.deepEqual(await told(bob, last), range(first, last))
  assert.deepEqual(await bob.events('gap'), [{ conversation: group, after: 1, before: first }])
  assert.equal((await line(bob, group))?.unread, last)
  const page = await bob.page.evaluate(([id, before]) => window.chat.history(/** @type {string} */ (id), { before: Number(before), limit: 100 }), [group, first])
  assert.deepEqual(page.map((message) => message.seq), range(first - 100, first - 1))
})
