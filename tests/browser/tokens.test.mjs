// @ts-check
/** Tokens: who is asked for them, when, and what becomes of bad ones. */

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

scenario('the token provider is asked once at a time, again before the end, and the connection stays', async (scene) => {
  const alice = await SdkPage.open(scene, 'renewer', front.origin, { connect: false })
  let sockets = 0
  alice.page.on('websocket', () => void sockets++)
  await alice.page.evaluate(async () => {
    window.kept = { asked: 0, now: 0, most: 0, states: [] }
    const token = async () => {
      window.kept.asked++
      window.kept.most = Math.max(window.kept.most, ++window.kept.now)
      const answer = await (await fetch('/dev/token?user=renewer&expires=5')).text()
      // A slow provider.
      await new Promise((resolve) => setTimeout(resolve, 300))
      window.kept.now--
      return answer
    }
    window.chat = await window.hongyan.connect({ user: 'renewer', token })
    window.chat.on('state', (state) => window.kept.states.push(state.status))
    const conversation = await window.chat.direct('bob')
    await Promise.all(Array.from({ length: 10 }, (_, index) => window.chat.send(conversation, { text: `${index}` })))
  })
  const began = Date.now()
  assert.equal(await alice.page.evaluate(() => window.kept.asked), 1, 'many sends, one question')
  // Longer than a token's life and the relay's leeway (5 s each): only renewal keeps this connection.
  await until('the token was renewed beyond its first life', async () => Date.now() - began > 11_000 && (await alice.page.evaluate(() => window.kept.asked)) >= 3, { within: 20_000 })
  const { asked, most, states } = await alice.page.evaluate(() => window.kept)
  assert.equal(most, 1)
  assert.ok(asked <= 8, `asked ${asked} times in 11 s`)
  assert.deepEqual(states.filter((/** @type {string} */ status) => status !== 'online' && status !== 'connecting'), [])
  assert.equal((await alice.state()).status, 'online')
  assert.equal(sockets, 1, 'one connection all the time')
  await alice.page.evaluate(async () => window.chat.send(await window.chat.direct('bob'), { text: 'still here' }))
})

scenario('a provider that gives a page for a token is asked again', async (scene) => {
  const alice = await SdkPage.open(scene, 'patient', front.origin, { connect: false })
  const seen = await alice.page.evaluate(async () => {
    let asked = 0
    const token = async () => {
      // What a back end that is down answers, when nobody looks at the status.
      if (++asked <= 2) return '<html><h1>503 Service Unavailable</h1></html>'
      return (await fetch('/dev/token?user=patient')).text()
    }
    const chat = await window.hongyan.connect({ user: 'patient', token, storage: 'memory' })
    const told = new Set()
    chat.on('state', (state) => state.reason !== undefined && told.add(`${state.status} ${state.reason.class}`))
    while (chat.state.status !== 'online') await new Promise((resolve) => chat.on('state', resolve))
    await chat.close()
    return { asked, told: [...told] }
  })
  assert.equal(seen.asked, 3)
  assert.ok(seen.told.includes('offline reconnect'), `it says so meanwhile: ${seen.told.join(', ')}`)
})

scenario('a token that is refused stops the chat and says why', async (scene) => {
  const alice = await SdkPage.open(scene, 'forger', front.origin, { connect: false })
  for (const [token, code] of [['not.a.token', 'token-invalid'], [await relay.token('somebody-else'), 'token-user-mismatch']]) {
    const reason = await alice.page.evaluate(async (token) => {
      const chat = await window.hongyan.connect({ user: 'forger', token: /** @type {string} */ (token), storage: 'memory' })
      while (chat.state.status !== 'stopped') await new Promise((resolve) => chat.on('state', resolve))
      const pending = await chat.groups.create({ title: 'x', members: [] }).then(() => 'fulfilled', (error) => error.code)
      const { reason } = chat.state
      await chat.close()
      return { code: reason?.code, class: reason?.class, pending }
    }, token)
    assert.deepEqual([reason.code, reason.class], [code, 'stop'])
    assert.notEqual(reason.pending, 'fulfilled')
  }
})
