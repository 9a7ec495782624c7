// @ts-check
/** Groups and history through the package's surface. */

import assert from 'node:assert/strict'
import { after, before } from 'node:test'

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
  relay = await Relay.start(ground)
  front = await Front.open(ground, () => relay.port)
})

after(async () => {
  await ground.end()
  ground.check()
})

scenario('groups: made, grown, shrunk and left, seen by all', async (scene) => {
  const alice = await SdkPage.open(scene, 'g-alice', front.origin)
  const bob = await SdkPage.open(scene, 'g-bob', front.origin)
  const carol = await SdkPage.open(scene, 'g-carol', front.origin)
  const group = await alice.page.evaluate(() => window.chat.groups.create({ title: '雁阵 Geese', members: ['g-bob'] }))
  const line = await until('bob has it', async () => bob.page.evaluate(async (id) => (await window.chat.conversations()).find((one) => one.id === id), group))
  assert.deepEqual([line.kind, line.title, line.group?.owner, line.group?.memberCount, line.unread, line.left], ['group', '雁阵 Geese', 'g-alice', 2, 0, false])

  await alice.page.evaluate((id) => window.chat.send(id, { text: 'before carol' }), group)
  await alice.page.evaluate((id) => window.chat.groups.add(id, ['g-carol']), group)
  await until('carol has it', () => carol.page.evaluate(async (id) => (await window.chat.conversations()).some((one) => one.id === id), group))
  await carol.page.evaluate((id) => window.chat.send(id, { text: 'thank you' }), group)
  const page = await alice.page.evaluate((id) => window.chat.groups.members(id), group)
  assert.deepEqual(page, { members: [{ user: 'g-alice', role: 'owner' }, { user: 'g-bob', role: 'member' }, { user: 'g-carol', role: 'member' }], more: false })
  const paged = await bob.page.evaluate(async (id) => {
    const first = await window.chat.groups.members(id, { limit: 2 })
    return [first, await window.chat.groups.members(id, { after: first.members[1]?.user ?? '' })]
  }, group)
  assert.deepEqual(paged.map((one) => [one.members.map((member) => member.user), one.more]), [[['g-alice', 'g-bob'], true], [['g-carol'], false]])

  const forbidden = await bob.page.evaluate(async (id) => [
    await window.chat.groups.add(id, ['g-dave']).catch((error) => error.code),
    await window.chat.groups.remove(id, ['g-carol']).catch((error) => error.code),
  ], group)
  assert.deepEqual(forbidden, ['not-permitted', 'not-permitted'])

  await alice.page.evaluate((id) => window.chat.groups.remove(id, ['g-carol']), group)
  await until('carol’s list says so', () => carol.page.evaluate(async (id) => (await window.chat.conversations()).find((one) => one.id === id)?.left, group))
  assert.equal(await carol.page.evaluate((id) => window.chat.send(id, { text: 'x' }).catch((error) => error.code), group), 'not-a-member')
  await bob.page.evaluate((id) => window.chat.groups.leave(id), group)
  await until('alice is alone', async () => (await alice.page.evaluate((id) => window.chat.groups.members(id), group)).members.length === 1)

  await until('alice heard of bob’s leaving', async () => (await alice.events('group')).length === 4)
  const updates = (await alice.events('group')).map(({ kind, by, users, group }) => [kind, by, users.join(), group.memberCount])
  assert.deepEqual(updates, [['created', 'g-alice', updates[0]?.[2], 2], ['added', 'g-alice', 'g-carol', 3], ['removed', 'g-alice', 'g-carol', 2], ['left', 'g-bob', 'g-bob', 1]])
  assert.deepEqual((await bob.events('message')).map(({ seq, body }) => [seq, body.text]), [[1, 'before carol'], [2, 'thank you']])
  const versions = (await alice.events('group')).map((update) => update.group.version)
  assert.deepEqual(versions, [...versions].sort((a, b) => a - b))
})

scenario('history pages both ways, from the cache and from the relay', async (scene) => {
  const alice = await SdkPage.open(scene, 'reader', front.origin)
  const conversation = await alice.page.evaluate(async () => {
    const id = await window.chat.direct('bob')
    await Promise.all(Array.from({ length: 130 }, (_, index) => window.chat.send(id, { text: `${index + 1}` })))
    return id
  })
  await until('all is cached', async () => (await alice.cache())?.messages.length === 130)
  const pages = () =>
    alice.page.evaluate(async (id) => {
      const seqs = async (/** @type {{ before?: number, after?: number, limit?: number }} */ options) => {
        const page = await window.chat.history(id, options)
        if (page.some((message) => message.body.text !== String(message.seq))) throw new Error('A message is not itself.')
        if (page.some((message, index) => index > 0 && message.seq !== (page[index - 1]?.seq ?? 0) + 1)) throw new Error('A page has a gap.')
        return [page[0]?.seq, page.at(-1)?.seq, page.length]
      }
      return [
        await seqs({}),
        await seqs({ before: 81, limit: 30 }),
        await seqs({ before: 10, limit: 30 }),
        await seqs({ before: 1 }),
        await seqs({ after: 0, limit: 10 }),
        await seqs({ after: 60, limit: 100 }),
        await seqs({ after: 125 }),
        await seqs({ after: 130 }),
        await seqs({ limit: 1_000 }),
      ]
    }, conversation)
  const expected = [
    [81, 130, 50],
    [51, 80, 30],
    [1, 9, 9],
    [undefined, undefined, 0],
    [1, 10, 10],
    [61, 130, 70],
    [126, 130, 5],
    [undefined, undefined, 0],
    [31, 130, 100],
  ]
  assert.deepEqual(await pages(), expected)

  // The same with holes in the cache: what is missing comes from the relay.
  await alice.page.evaluate(() => window.chat.close())
  await alice.page.evaluate(async () => {
    const name = (await indexedDB.databases()).map((one) => one.name ?? '').find((one) => one.endsWith(' reader')) ?? ''
    await new Promise((resolve, reject) => {
      const opening = indexedDB.open(name)
      opening.onsuccess = () => {
        const transaction = opening.result.transaction('messages', 'readwrite')
        const messages = transaction.objectStore('messages')
        const keys = messages.getAllKeys()
        keys.onsuccess = () => {
          for (const key of keys.result) if (/** @type {[string, number]} */ (key)[1] % 3 !== 0) messages.delete(key)
        }
        transaction.oncomplete = () => {
          opening.result.close()
          resolve(undefined)
        }
        transaction.onabort = reject
      }
    })
  })
  await alice.load(front.origin)
  await alice.connect()
  await alice.online()
  assert.deepEqual(await pages(), expected)
  const strange = await alice.page.evaluate(() => window.chat.history('g-that-never-was').catch((error) => error.code))
  assert.ok(strange === 'not-a-member' || (Array.isArray(strange) && strange.length === 0), String(strange))
})
