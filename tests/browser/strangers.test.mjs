// @ts-check
/** What other clients put into a message, and other scripts of the page's origin on its channel, breaks nothing. */

import assert from 'node:assert/strict'
import { after, before } from 'node:test'

import { Front } from './harness/front.mjs'
import { Relay } from './harness/relay.mjs'
import { Scene, scenario } from './harness/scene.mjs'
import { SdkPage } from './harness/sdk.mjs'
import { TabGroup } from './harness/tabs.mjs'
import { post, texts, told } from './harness/traffic.mjs'
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

scenario('kind and text are the message’s, whatever another client has put into its JSON', async (scene) => {
  const stranger = await SdkPage.open(scene, 'stranger', front.origin)
  await stranger.online()
  const alice = await SdkPage.open(scene, 'plain', front.origin)
  // A client of somebody's own: the same frames, with other JSON of the same length in them.
  await stranger.page.evaluate(() => {
    const swaps = [['{"a":1}', '["a",1]'], ['{"kinn":7}', '{"kind":7}'], ['{"texx":7}', '{"text":7}']]
    const send = WebSocket.prototype.send
    WebSocket.prototype.send = function (/** @type {any} */ data) {
      const bytes = new Uint8Array(data.slice(0))
      const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')
      for (const [from = '', to = ''] of swaps) {
        const at = text.indexOf(from)
        if (at >= 0) bytes.set(new TextEncoder().encode(to), at)
      }
      send.call(this, bytes)
    }
  })
  await stranger.page.evaluate(async () => {
    const conversation = await window.chat.direct('plain')
    const bodies = [{ kind: 'order', text: 'two teas', a: 1 }, { text: 'no kind', kinn: 7 }, { kind: 'no-text', texx: 7 }]
    for (const body of /** @type {any[]} */ (bodies)) await window.chat.send(conversation, body)
  })
  await until('all came', async () => (await alice.events('message')).length === 3)
  const bodies = (await alice.events('message')).map((message) => message.body)
  assert.deepEqual(bodies, [{ kind: 'order', text: 'two teas' }, { text: 'no kind' }, { kind: 'no-text' }])
})

scenario('what another script writes on the channel breaks no tab', async (scene) => {
  const group = await TabGroup.open(scene, 'overheard', front.origin, 1)
  await group.leader()
  const [first] = group.tabs
  assert.ok(first)
  await first.page.evaluate(async () => {
    const channel = (window.kept.channel = new BroadcastChannel((await indexedDB.databases())[0]?.name ?? ''))
    const heard = (/** @type {any[]} */ (window.kept.notes = []))
    channel.onmessage = ({ data }) => heard.push(data)
  })
  // The leader answers it: the version and the term that count are in that note.
  const second = await group.openTab()
  await group.leader()
  const lead = await until('the leader’s answer is overheard', () => first.page.evaluate(() => window.kept.notes.find((/** @type {any[]} */ note) => note[1] === 'lead')))
  await first.page.evaluate(([version, , , leaderTerm]) => {
    const { channel } = window.kept
    const nonsense = [undefined, null, 7, '', 'nonsense', '7', '{}', 'null', '[]', '["nothing"]', '["state",7]', '["state"]', [], {}]
    for (const what of nonsense) {
      channel.postMessage(what)
      channel.postMessage([version, what])
      for (const term of [0, leaderTerm, what]) {
        channel.postMessage([version, 'now', term, what])
        channel.postMessage([version, 'durable', term, what, what])
        channel.postMessage([version, 'lead', what, term, what, what, what, what])
        channel.postMessage([version, 'ask', term, 7, 7, what])
        channel.postMessage([version, 'taken', term, what, what])
        channel.postMessage([version, 'reply', term, what, what, what, what])
      }
      for (const kind of ['join', 'visible', 'leave']) channel.postMessage([version, kind, what, what, what])
    }
    // What is well formed is heard: so the nonsense was, too.
    const typing = { conversation: '~9.overheard.overheard-peer', user: 'overheard-peer', typing: true }
    channel.postMessage([version, 'now', leaderTerm, JSON.stringify(['typing', typing])])
  }, lead)
  await until('what is well formed is told', async () => (await second.events('typing')).length > 0, { seen: () => lead })
  assert.deepEqual((await second.events('typing')).map(({ user }) => user), ['overheard-peer'])
  const bob = await SdkPage.open(scene, 'overheard-peer', front.origin)
  await post(bob, 'overheard', texts(1, 5))
  for (const tab of group.tabs) {
    await until('all came', async () => (await told(tab, 'overheard-peer')).length === 5)
    assert.deepEqual(await told(tab, 'overheard-peer'), texts(1, 5))
  }
})
