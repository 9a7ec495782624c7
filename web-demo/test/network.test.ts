import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HELD_BYTES_MAX, install, type Host } from '../src/lab/network.ts'

/** The browser's socket, played by the test. */
class Played extends EventTarget {
  static all: Played[] = []
  binaryType = 'blob'
  readyState = 0
  sent: unknown[] = []
  closedWith: number | undefined
  constructor(readonly url: string) {
    super()
    Played.all.push(this)
  }
  send(data: unknown): void {
    this.sent.push(data)
  }
  close(code = 1000): void {
    this.closedWith = code
  }
  says(event: Event): void {
    this.readyState = event.type === 'open' ? 1 : event.type === 'close' ? 3 : this.readyState
    this.dispatchEvent(event)
  }
}

/** Node has no such event before version 23. */
class PlayedClose extends Event {
  readonly code: number
  constructor(type: string, { code = 0 }: { code?: number } = {}) {
    super(type)
    this.code = code
  }
}
globalThis.CloseEvent ??= PlayedClose as unknown as typeof CloseEvent

function scene() {
  Played.all = []
  const fetched: unknown[] = []
  const beacons: unknown[] = []
  const host = {
    WebSocket: Played as unknown as typeof WebSocket,
    fetch: async (input: unknown) => {
      fetched.push(input)
      return new Response('token')
    },
    navigator: {
      sendBeacon: (url: string | URL) => {
        beacons.push(url)
        return true
      },
    },
  } as Host
  const network = install(host)
  const open = () => {
    const socket = new host.WebSocket('ws://relay/ws')
    const heard: string[] = []
    for (const type of ['open', 'message', 'close'] as const) {
      socket.addEventListener(type, (event: Event) => heard.push(event instanceof MessageEvent ? String(event.data) : type))
    }
    return { socket, heard, native: Played.all.at(-1) }
  }
  return { host, network, open, fetched, beacons }
}

test('a whole network passes everything on at once', async () => {
  const { host, open, fetched, beacons } = scene()
  const { socket, heard, native } = open()
  socket.binaryType = 'arraybuffer'
  native?.says(new Event('open'))
  socket.send('hello')
  native?.says(new MessageEvent('message', { data: 'welcome' }))
  socket.close(1000)
  native?.says(new CloseEvent('close', { code: 1000 }))
  assert.deepEqual(heard, ['open', 'welcome', 'close'])
  assert.deepEqual([native?.binaryType, native?.sent, native?.closedWith], ['arraybuffer', ['hello'], 1000])
  await host.fetch('/dev/token')
  host.navigator.sendBeacon?.('/bye')
  assert.deepEqual([fetched, beacons], [['/dev/token'], ['/bye']])
})

test('a cut network is silent both ways and tells nobody; healed, what was held comes late and in order', () => {
  const { network, open } = scene()
  const { socket, heard, native } = open()
  native?.says(new Event('open'))
  network.cut()
  const bytes = new Uint8Array([1, 2])
  socket.send(bytes)
  // What was given may be memory that is used again.
  bytes.fill(9)
  socket.send('two')
  native?.says(new MessageEvent('message', { data: 'a' }))
  native?.says(new MessageEvent('message', { data: 'b' }))
  assert.deepEqual([heard, native?.sent], [['open'], []])
  network.heal()
  assert.deepEqual(heard, ['open', 'a', 'b'])
  assert.deepEqual(native?.sent.map((data) => (data instanceof ArrayBuffer ? [...new Uint8Array(data)] : data)), [[1, 2], 'two'])
  assert.equal(network.isCut, false)
})

test('that the other side closed meanwhile is told when the network heals, and nothing is sent to it', () => {
  const { network, open } = scene()
  const { socket, heard, native } = open()
  native?.says(new Event('open'))
  network.cut()
  socket.send('late')
  native?.says(new CloseEvent('close', { code: 4202 }))
  assert.deepEqual([heard, socket.readyState], [['open'], 1])
  network.heal()
  assert.deepEqual([heard, socket.readyState, native?.sent], [['open', 'close'], 3, []])
})

test('what connects while the network is cut waits; given up, it never connects', () => {
  const { network, open } = scene()
  network.cut()
  const patient = open()
  const gone = open()
  gone.socket.close()
  assert.equal(Played.all.length, 0)
  assert.deepEqual(gone.heard, ['close'])
  network.heal()
  assert.equal(Played.all.length, 1)
  Played.all[0]?.says(new Event('open'))
  assert.deepEqual([patient.heard, patient.socket.readyState], [['open'], 1])
})

test('a socket that holds too much breaks when the network heals', () => {
  const { network, open } = scene()
  const { socket, heard, native } = open()
  native?.says(new Event('open'))
  network.cut()
  socket.send(new Uint8Array(HELD_BYTES_MAX))
  native?.says(new MessageEvent('message', { data: 'one more' }))
  network.heal()
  assert.deepEqual([heard, native?.sent], [['open', 'close'], []])
})

test('beacons are lost in a cut network, requests wait or are given up', async () => {
  const { host, network, fetched, beacons } = scene()
  network.cut()
  assert.equal(host.navigator.sendBeacon?.('/bye'), true)
  const abort = new AbortController()
  const impatient = host.fetch('/one', { signal: abort.signal })
  const patient = host.fetch('/two')
  abort.abort()
  await assert.rejects(impatient, { name: 'AbortError' })
  network.heal()
  await patient
  assert.deepEqual([fetched, beacons], [['/two'], []])
})
