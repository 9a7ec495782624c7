// @ts-check
/** The package's surface, in a page that has nothing else. One relay for all; each test has users of its own. */

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before } from 'node:test'
import { pathToFileURL } from 'node:url'

import { pkg } from '../../scripts/lib/paths.mjs'
import { newPage, newProfile } from './harness/chromium.mjs'
import { Front } from './harness/front.mjs'
import { assertWhole } from './harness/log.mjs'
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

scenario('importing does nothing, in a page and in Node', async (scene) => {
  const profile = await newProfile(scene)
  const page = await newPage(scene, profile, 'a visitor')
  /** @type {string[]} */
  const asked = []
  page.on('request', (request) => asked.push(new URL(request.url()).pathname))
  page.on('websocket', (socket) => asked.push(socket.url()))
  await page.goto(`${front.origin}/sdk/`)
  const added = await page.evaluate(async () => {
    const before = Object.getOwnPropertyNames(window)
    window.hongyan = await import(/** @type {string} */ ('/sdk/hongyan/index.js'))
    const databases = await indexedDB.databases()
    return {
      globals: Object.getOwnPropertyNames(window).filter((name) => !before.includes(name) && name !== 'hongyan'),
      databases: databases.length,
      stored: localStorage.length + sessionStorage.length,
      exports: Object.keys(window.hongyan).sort(),
    }
  })
  assert.deepEqual(added, { globals: [], databases: 0, stored: 0, exports: ['Chat', 'ChatError', 'Devices', 'Groups', 'Presences', 'Profiles', 'connect'] })
  assert.deepEqual(asked.filter((path) => !path.endsWith('.js')), ['/sdk/'], 'scripts only: neither the wasm nor a socket')

  const globals = Object.getOwnPropertyNames(globalThis)
  const onServer = await import(pathToFileURL(join(pkg, 'index.js')).href)
  assert.equal(typeof onServer.connect, 'function')
  assert.deepEqual(Object.getOwnPropertyNames(globalThis).filter((name) => !globals.includes(name)), [])
})

scenario('connect does not wait for the network; what is sent then waits and arrives', async (scene) => {
  scene.expect(/WebSocket connection to '[^']*' failed/, /Failed to load resource/)
  const ownRelay = await Relay.start(scene)
  const ownFront = await Front.open(scene, () => ownRelay.port)
  await ownRelay.kill()
  const alice = await SdkPage.open(scene, 'alice', ownFront.origin)
  assert.ok(['connecting', 'offline'].includes((await alice.state()).status))
  assert.deepEqual(await alice.page.evaluate(() => window.chat.conversations()), [])
  await alice.page.evaluate(async () => {
    const conversation = await window.chat.direct('bob')
    window.kept.sent = window.chat.send(conversation, { text: 'early' })
  })
  const [waiting] = await until('it is shown as sending', async () => {
    const events = await alice.events('outbox')
    return events.length > 0 && events
  })
  assert.deepEqual([waiting?.status, waiting?.seq, waiting?.from], ['sending', 0, 'alice'])
  await until('it is offline, and says why and when it tries again', async () => {
    const state = await alice.state()
    return state.status === 'offline' && state.reason !== undefined && state.retryAt !== undefined
  }, { seen: () => alice.state() })
  await ownRelay.start()
  const sent = await alice.page.evaluate(() => window.kept.sent)
  assert.deepEqual([sent.status, sent.seq, sent.key], ['sent', 1, waiting?.key])
})

scenario('what it gives is plain, frozen data', async (scene) => {
  const alice = await SdkPage.open(scene, 'frozen-alice', front.origin)
  const report = await alice.page.evaluate(async () => {
    /** @type {string[]} */
    const wrong = []
    let checked = 0
    const check = (/** @type {string} */ where, /** @type {unknown} */ value) => {
      if (typeof value !== 'object' || value === null) return
      checked += 1
      if (!Object.isFrozen(value)) wrong.push(`${where} is not frozen`)
      if (![Object.prototype, Array.prototype].includes(Object.getPrototypeOf(value))) wrong.push(`${where} is not plain`)
      for (const [name, member] of Object.entries(value)) check(`${where}.${name}`, member)
    }
    const { chat } = window
    const conversation = await chat.direct('frozen-bob')
    const given = { kind: 'order', text: 'two teas', lines: [{ what: 'tea', count: 2 }] }
    const sent = await chat.send(conversation, given, { mentions: ['frozen-bob'] })
    given.lines[0] = { what: 'coffee', count: 9 }
    check('sent', sent)
    await chat.send(conversation, { text: 'again' }, { replyTo: sent.seq })
    const history = await chat.history(conversation)
    history.forEach((message, index) => check(`history[${index}]`, message))
    history.push(sent)
    const conversations = await chat.conversations()
    conversations.forEach((line, index) => check(`conversations[${index}]`, line))
    check('state', chat.state)
    await chat.groups.create({ title: 'Tea', members: ['frozen-bob'] })
    window.kept.events.forEach((/** @type {[string, unknown]} */ one) => check(one[0], one[1]))
    structuredClone(window.kept.events)
    return { wrong, checked, body: sent.body, mentions: sent.mentions, replyTo: history[1]?.replyTo, again: (await chat.history(conversation)).length }
  })
  assert.deepEqual(report.wrong, [])
  assert.ok(report.checked > 20)
  assert.deepEqual(report.body, { kind: 'order', text: 'two teas', lines: [{ what: 'tea', count: 2 }] })
  assert.deepEqual([report.mentions, report.replyTo, report.again], [['frozen-bob'], 1, 2])
})

scenario('a refusal is a ChatError, the message stays as failed, and can be tried again or discarded', async (scene) => {
  const owner = await SdkPage.open(scene, 'refused-owner', front.origin)
  const alice = await SdkPage.open(scene, 'refused-alice', front.origin)
  const group = await owner.page.evaluate(() => window.chat.groups.create({ title: 'Private', members: [] }))
  const refused = await alice.page.evaluate(async (group) => {
    try {
      await window.chat.send(group, { text: 'let me in' }, { key: 'knock' })
      return undefined
    } catch (thrown) {
      const error = /** @type {import('hongyan').ChatError} */ (thrown)
      return { code: error.code, class: error.class, message: error.message, name: error.name, isChatError: error instanceof window.hongyan.ChatError, isError: error instanceof Error }
    }
  }, group)
  assert.match(refused?.message ?? '', /^[A-Z].*\.$/)
  assert.deepEqual({ ...refused, message: '' }, { code: 'not-a-member', class: 'stop', message: '', name: 'ChatError', isChatError: true, isError: true })
  const events = await alice.events('outbox')
  assert.deepEqual(events.map(({ key, status, error }) => [key, status, error?.code]), [['knock', 'sending', undefined], ['knock', 'failed', 'not-a-member']])
  const waiting = await alice.page.evaluate((group) => window.chat.history(group), group).catch(() => [])
  assert.ok(waiting.length <= 1)

  await owner.page.evaluate((group) => window.chat.groups.add(group, ['refused-alice']), group)
  const again = await alice.page.evaluate((group) => window.chat.send(group, { text: 'let me in' }, { key: 'knock' }), group)
  assert.deepEqual([again.key, again.status, again.seq], ['knock', 'sent', 1])

  const other = await owner.page.evaluate(() => window.chat.groups.create({ title: 'More private', members: [] }))
  const outcome = await alice.page.evaluate(async (other) => {
    const code = await window.chat.send(other, { text: 'x' }, { key: 'second' }).catch((error) => error.code)
    await window.chat.discard('second')
    return code
  }, other)
  assert.equal(outcome, 'not-a-member')
  await until('the outbox is empty in the cache', async () => (await alice.cache())?.outbox.length === 0)
  const large = await alice.page.evaluate(async (group) => window.chat.send(group, { text: 'x'.repeat(70_000) }).catch((error) => error.code), group)
  assert.equal(large, 'content-too-large')
  assert.equal(await alice.page.evaluate(async (group) => (await window.chat.send(group, { text: 'fine' })).seq, group), 2)
})

scenario('bad arguments reject as bad-request and break nothing', async (scene) => {
  const alice = await SdkPage.open(scene, 'clumsy', front.origin)
  const outcome = await alice.page.evaluate(async () => {
    const { chat } = window
    const conversation = await chat.direct('bob')
    const group = await chat.groups.create({ title: 'A group', members: [] })
    const circle = /** @type {any} */ ({ kind: 'circle' })
    circle.self = circle
    const any = (/** @type {unknown} */ value) => /** @type {any} */ (value)
    /** @type {[string, () => Promise<unknown>][]} */
    const attempts = [
      ['direct: empty', () => chat.direct('')],
      ['direct: number', () => chat.direct(any(5))],
      ['direct: nothing', () => any(chat).direct()],
      ['direct: too long', () => chat.direct('x'.repeat(129))],
      ['direct: control characters', () => chat.direct('a\nb')],
      ['send: no conversation', () => chat.send(any(undefined), { text: 'x' })],
      ['send: empty conversation', () => chat.send('', { text: 'x' })],
      ['send: conversation too long', () => chat.send('g'.repeat(300), { text: 'x' })],
      ['send: body null', () => chat.send(conversation, any(null))],
      ['send: body a string', () => chat.send(conversation, any('x'))],
      ['send: body empty', () => chat.send(conversation, any({}))],
      ['send: body a list', () => chat.send(conversation, any([{ text: 'x' }]))],
      ['send: text a number', () => chat.send(conversation, any({ text: 5 }))],
      ['send: empty text', () => chat.send(conversation, { text: '' })],
      ['send: a circle', () => chat.send(conversation, circle)],
      ['send: a bigint', () => chat.send(conversation, any({ kind: 'x', value: 10n }))],
      ['send: empty key', () => chat.send(conversation, { text: 'x' }, { key: '' })],
      ['send: key a number', () => chat.send(conversation, { text: 'x' }, { key: any(7) })],
      ['send: replyTo negative', () => chat.send(conversation, { text: 'x' }, { replyTo: -1 })],
      ['send: replyTo a fraction', () => chat.send(conversation, { text: 'x' }, { replyTo: 1.5 })],
      ['send: mentions a string', () => chat.send(conversation, { text: 'x' }, { mentions: any('bob') })],
      ['send: mentions numbers', () => chat.send(conversation, { text: 'x' }, { mentions: any([1]) })],
      ['send: too many mentions', () => chat.send(conversation, { text: 'x' }, { mentions: Array.from({ length: 65 }, (_, index) => `u${index}`) })],
      ['discard: empty', () => chat.discard('')],
      ['history: limit 0', () => chat.history(conversation, { limit: 0 })],
      ['history: limit negative', () => chat.history(conversation, { limit: -5 })],
      ['history: limit NaN', () => chat.history(conversation, { limit: NaN })],
      ['history: limit a string', () => chat.history(conversation, { limit: any('10') })],
      ['history: before a fraction', () => chat.history(conversation, { before: 1.5 })],
      ['history: both bounds', () => chat.history(conversation, { after: 20, before: 25 })],
      ['history: after infinite', () => chat.history(conversation, { after: Infinity })],
      ['history: conversation a number', () => chat.history(any(1))],
      ['conversations: limit 0', () => chat.conversations({ limit: 0 })],
      ['conversations: before empty', () => chat.conversations({ before: '' })],
      ['markRead: negative', () => chat.markRead(conversation, -1)],
      ['markRead: a string', () => chat.markRead(conversation, any('1'))],
      ['groups.create: title a number', () => chat.groups.create({ title: any(5), members: [] })],
      ['groups.create: title too long', () => chat.groups.create({ title: 'x'.repeat(257), members: [] })],
      ['groups.create: members a string', () => chat.groups.create({ title: 'x', members: any('bob') })],
      ['groups.create: members numbers', () => chat.groups.create({ title: 'x', members: any([1]) })],
      ['groups.create: nothing', () => any(chat.groups).create()],
      ['groups.add: no list', () => any(chat.groups).add(group)],
      ['groups.add: to a direct conversation', () => chat.groups.add(conversation, ['carol'])],
      ['groups.remove: numbers', () => chat.groups.remove(group, any([1]))],
      ['groups.leave: a direct conversation', () => chat.groups.leave(conversation)],
      ['groups.members: limit 0', () => chat.groups.members(group, { limit: 0 })],
      ['send: options null', () => chat.send(conversation, any({}), any(null))],
    ]
    /** @type {Record<string, string>} */
    const wrong = {}
    for (const [name, attempt] of attempts) {
      try {
        const value = await attempt()
        wrong[name] = `fulfilled with ${JSON.stringify(value)}`
      } catch (error) {
        if (!(error instanceof window.hongyan.ChatError)) wrong[name] = String(error)
        else if (error.code !== 'bad-request') wrong[name] = error.code
      }
    }
    const events = ['nope', '__proto__', 'constructor', undefined].map((event) => {
      try {
        chat.on(any(event), () => {})
        return 'taken'
      } catch (error) {
        return error instanceof TypeError ? 'TypeError' : String(error)
      }
    })
    const { connect } = window.hongyan
    const token = 'x.y.z'
    /** @type {unknown[]} */
    const options = [
      undefined,
      null,
      {},
      { user: 'x' },
      { user: '', token },
      { user: 5, token },
      { user: 'x', token: 5 },
      { user: 'x', token, url: 'ftp://example.com' },
      { user: 'x', token, url: 'example.com' },
      { user: 'x', token, url: 5 },
      { user: 'x', token, storage: 'disk' },
      { user: 'x', token, deviceKind: 'toaster' },
    ]
    const codes = await Promise.all(options.map((one) => connect(any(one)).then(() => 'connected', (error) => error.code ?? String(error))))
    // `null` is what JSON makes of an absent option: the default.
    const lenient = await chat.history(conversation, any({ before: null, limit: null }))
    for (const options of [null, undefined]) {
      lenient.push(...(await chat.history(conversation, any(options))))
      await chat.conversations(any(options))
      await chat.groups.members(group, any(options))
    }
    const sent = await chat.send(conversation, { text: 'still here' })
    return { wrong, events, codes, lenient: lenient.length, seq: sent.seq }
  })
  assert.deepEqual(outcome.wrong, {})
  assert.deepEqual(outcome.events, Array(4).fill('TypeError'))
  assert.deepEqual(outcome.codes, Array(12).fill('bad-request'))
  assert.deepEqual([outcome.lenient, outcome.seq], [0, 1])
})

scenario('a listener that throws stops nothing and is reported', async (scene) => {
  scene.expect(/a listener’s own mistake/)
  const alice = await SdkPage.open(scene, 'thrower', front.origin)
  const outcome = await alice.page.evaluate(async () => {
    const { chat } = window
    /** @type {string[]} */
    const reported = []
    addEventListener('error', (event) => reported.push(event.message))
    const heard = { before: 0, after: 0 }
    chat.on('message', () => void heard.before++)
    chat.on('message', () => {
      throw new Error('a listener’s own mistake')
    })
    chat.on('message', () => void heard.after++)
    const conversation = await chat.direct('bob')
    await chat.send(conversation, { text: 'one' })
    const second = await chat.send(conversation, { text: 'two' })
    while (heard.after < 2) await new Promise((resolve) => chat.on('message', resolve))
    return { heard, reported: reported.length, seq: second.seq }
  })
  assert.deepEqual(outcome, { heard: { before: 2, after: 2 }, reported: 2, seq: 2 })
})

scenario('a listener may call anything at once', async (scene) => {
  const alice = await SdkPage.open(scene, 'reentrant', front.origin)
  const outcome = await alice.page.evaluate(async () => {
    const { chat } = window
    const conversation = await chat.direct('bob')
    /** @type {Promise<unknown>[]} */
    const asked = []
    /** @type {string[]} */
    const texts = []
    let answered = 0
    chat.on('outbox', (message) => {
      if (answered++ === 0) asked.push(chat.send(conversation, { text: `to ${message.body.text}` }))
      asked.push(chat.conversations(), chat.history(conversation), chat.direct('carol'))
    })
    chat.on('state', () => void asked.push(chat.conversations()))
    chat.on('conversation', (line) => void asked.push(chat.history(line.id)))
    const both = new Promise((resolve) => {
      chat.on('message', (message) => {
        texts.push(/** @type {string} */ (message.body.text))
        asked.push(chat.markRead(conversation, message.seq), chat.groups.create({ title: 'x', members: [] }))
        if (texts.length === 2) resolve(undefined)
      })
    })
    await chat.send(conversation, { text: 'one' })
    await both
    const settled = await Promise.allSettled(asked)
    return { texts, failed: settled.filter((one) => one.status === 'rejected').map(String) }
  })
  assert.deepEqual(outcome, { texts: ['one', 'to one'], failed: [] })
})

scenario('unsubscribing ends it, also from inside, also twice', async (scene) => {
  const alice = await SdkPage.open(scene, 'unsubscriber', front.origin)
  const heard = await alice.page.evaluate(async () => {
    const { chat } = window
    const counts = { first: 0, inside: 0, all: 0 }
    const off = chat.on('message', () => void counts.first++)
    const offInside = chat.on('message', () => {
      counts.inside++
      offInside()
    })
    const three = new Promise((resolve) => {
      chat.on('message', () => void (++counts.all === 3 && resolve(undefined)))
    })
    const conversation = await chat.direct('bob')
    await chat.send(conversation, { text: '1' })
    while (counts.all < 1) await new Promise((resolve) => chat.on('message', resolve))
    off()
    off()
    await chat.send(conversation, { text: '2' })
    await chat.send(conversation, { text: '3' })
    await three
    return counts
  })
  assert.deepEqual(heard, { first: 1, inside: 1, all: 3 })
})

scenario('nothing is written to a socket that is closing, and nothing is lost by it', async (scene) => {
  const bob = await SdkPage.open(scene, 'closing-peer', front.origin)
  const profile = await newProfile(scene)
  await profile.addInitScript(() => {
    const send = WebSocket.prototype.send
    WebSocket.prototype.send = function (/** @type {any} */ data) {
      window.kept.socket = this
      if (this.readyState !== WebSocket.OPEN) window.kept.late = true
      Reflect.apply(send, this, [data])
    }
  })
  const alice = await SdkPage.open(scene, 'closing', front.origin, { profile })
  await alice.online()
  await alice.page.evaluate(async () => {
    // As when the relay's close frame has come, and its event has not.
    const { socket } = window.kept
    Object.defineProperty(socket, 'readyState', { get: () => WebSocket.CLOSING })
    const conversation = await window.chat.direct('closing-peer')
    const sends = [1, 2, 3].map((n) => window.chat.send(conversation, { text: `message ${n}` }))
    setTimeout(() => socket.close(), 500)
    await Promise.all(sends)
  })
  await until('all came', async () => (await bob.events('message')).length === 3, { seen: () => bob.events('message') })
  assert.equal(await alice.page.evaluate(() => window.kept.late), undefined, 'nothing was written to it')
})

scenario('close lets go of everything, and the next chat has it again', async (scene) => {
  const alice = await SdkPage.open(scene, 'closer', front.origin, { connect: false })
  const socket = alice.page.waitForEvent('websocket')
  await alice.connect()
  await alice.online()
  const outcome = await alice.page.evaluate(async () => {
    const { chat } = window
    const conversation = await chat.direct('bob')
    await chat.send(conversation, { text: 'kept' })
    await chat.close()
    await chat.close()
    const { status } = chat.state
    /** @type {(() => Promise<unknown>)[]} */
    const calls = [
      () => chat.direct('bob'),
      () => chat.send(conversation, { text: 'x' }),
      () => chat.discard('x'),
      () => chat.history(conversation),
      () => chat.conversations(),
      () => chat.markRead(conversation),
      () => chat.groups.create({ title: 'x', members: [] }),
      () => chat.groups.members('x'),
    ]
    const codes = await Promise.all(calls.map((call) => call().then(() => 'fulfilled', (error) => error.code)))
    return { status, codes }
  })
  assert.equal(outcome.status, 'stopped')
  assert.deepEqual(outcome.codes, Array(8).fill('closed'))
  await until('the socket is closed', async () => (await socket).isClosed())
  await alice.connect()
  assert.equal((await alice.state()).storage, 'indexeddb', 'the lock was let go')
  assert.deepEqual(await alice.page.evaluate(async () => (await window.chat.conversations()).map((line) => line.last?.body.text)), ['kept'])
})

scenario('logout empties the cache; keepCache keeps it', async (scene) => {
  const alice = await SdkPage.open(scene, 'leaver', front.origin)
  const write = () => alice.page.evaluate(async () => window.chat.send(await window.chat.direct('bob'), { text: 'private' }))
  await write()
  await until('it is cached', async () => (await alice.cache())?.messages.length === 1)
  await alice.page.evaluate(() => window.chat.logout({ keepCache: true }))
  assert.equal((await alice.state()).status, 'stopped')
  assert.equal((await alice.cache())?.messages.length, 1)

  await alice.connect()
  await alice.online()
  await write()
  await until('both are cached', async () => (await alice.cache())?.messages.length === 2)
  await alice.page.evaluate(() => window.chat.logout())
  const cache = await alice.cache()
  assert.deepEqual([cache?.messages ?? [], cache?.outbox ?? [], cache?.conversations ?? []], [[], [], []])
  // In again: everything comes back from the relay.
  await alice.connect()
  await alice.online()
  assertWhole(await alice.page.evaluate(async () => window.chat.history(await window.chat.direct('bob'))), 2)
})

scenario('it lives inside Vue’s reactive()', async (scene) => {
  const alice = await SdkPage.open(scene, 'vue-alice', front.origin)
  const outcome = await alice.page.evaluate(async () => {
    const { reactive, computed, watchEffect, nextTick } = await import(/** @type {string} */ ('/sdk/vue.js'))
    const app = reactive({ chat: window.chat, messages: [] })
    const { chat } = app
    if (chat === window.chat) throw new Error('Vue did not wrap it.')
    const count = computed(() => app.messages.length)
    /** @type {number[]} */
    const counts = []
    watchEffect(() => counts.push(count.value))
    const off = chat.on('message', (/** @type {unknown} */ message) => app.messages.push(message))
    const conversation = await chat.direct('vue-bob')
    const sent = await chat.send(conversation, { text: 'through a proxy' })
    while (app.messages.length < 1) await new Promise((resolve) => chat.on('message', resolve))
    await nextTick()
    const [message] = app.messages
    const group = await chat.groups.create({ title: 'Proxies', members: ['vue-bob'] })
    const { members } = await chat.groups.members(group)
    await chat.markRead(conversation, sent.seq)
    const result = {
      text: message.body.text,
      history: (await chat.history(conversation)).length,
      lines: (await chat.conversations()).length,
      members: members.length,
      counts,
      status: chat.state.status,
      own: chat.user,
    }
    off()
    await chat.close()
    return { ...result, after: chat.state.status }
  })
  assert.deepEqual(outcome, { text: 'through a proxy', history: 1, lines: 2, members: 2, counts: [0, 1], status: 'online', own: 'vue-alice', after: 'stopped' })
})

scenario('a page of another origin names the relay', async (scene) => {
  const alice = await SdkPage.open(scene, 'abroad', front.origin, { connect: false })
  const token = await relay.token('abroad')
  const seq = await alice.page.evaluate(async ({ token, url }) => {
    window.chat = await window.hongyan.connect({ user: 'abroad', token, url })
    return (await window.chat.send(await window.chat.direct('bob'), { text: 'hello' })).seq
  }, { token, url: relay.origin })
  assert.equal(seq, 1)
})

scenario('a module that did not load is loaded at the next try', async (scene) => {
  scene.expect(/Failed to load resource/)
  const alice = await SdkPage.open(scene, 'patient', front.origin, { connect: false })
  await alice.page.route('**/hongyan_bg.wasm', (route) => route.fulfill({ status: 503, body: '' }), { times: 1 })
  const outcome = await alice.page.evaluate(async () => {
    const options = { user: 'patient', token: 'x.y.z' }
    const first = await window.hongyan.connect(options).then(() => 'connected', (error) => (error instanceof Error ? 'an Error' : String(error)))
    const chat = await window.hongyan.connect(options)
    await chat.close()
    return first
  })
  assert.equal(outcome, 'an Error')
})
