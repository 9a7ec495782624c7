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
  const group = await TabGroup.open(scene, 'overheard', front.origin, 2)
  await group.leader()
  await group.tabs[0]?.page.evaluate(async () => {
    const channel = new BroadcastChannel((await indexedDB.databases())[0]?.name ?? '')
    const nonsense = [undefined, null, 7, '', 'nonsense', '7', '{}', 'null', '[]', '["nothing"]', '["state",7]', '["state"]', [], {}]
    const version = 2
    for (const what of nonsense) {
      channel.postMessage(what)
      channel.postMessage([version, what])
      for (let term = 0; term < 5; term++) {
        channel.postMessage([version, 'now', term, what])
        channel.postMessage([version, 'durable', term, what, what])
        channel.postMessage([version, 'reply', term, what, what, what, what])
      }
    }
  })
  const bob = await SdkPage.open(scene, 'overheard-peer', front.origin)
  await post(bob, 'overheard', texts(1, 5))
  for (const tab of group.tabs) {
    await until('all came', async () => (await told(tab, 'overheard-peer')).length === 5)
    assert.deepEqual(await told(tab, 'overheard-peer'), texts(1, 5))
  }
})
