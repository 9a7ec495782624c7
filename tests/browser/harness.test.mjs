// @ts-check
/** The tools of these tests do what they say: a cut is silent, what it held arrives late, a reset is loud. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { test } from 'node:test'

import { Proxy } from './harness/proxy.mjs'
import { Scene, scenario } from './harness/scene.mjs'
import { TooLate, until } from './harness/wait.mjs'

/**
 * A server that answers in capitals, a proxy before it, and a way to connect.
 * @param {Scene} scene
 */
async function shouting(scene) {
  let connections = 0
  const server = net.createServer((socket) => {
    connections += 1
    socket.on('data', (bytes) => socket.write(bytes.toString().toUpperCase()))
    socket.on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  scene.onEnd(() => server.close())
  const { port } = /** @type {net.AddressInfo} */ (server.address())
  const proxy = await Proxy.open(scene, () => port)
  const connect = async () => {
    const socket = net.connect(proxy.port, '127.0.0.1')
    const heard = { text: '', ended: '' }
    socket.on('data', (bytes) => (heard.text += bytes))
    socket.on('error', (error) => (heard.ended = error.message))
    socket.on('close', () => (heard.ended ||= 'closed'))
    scene.onEnd(() => socket.destroy())
    await once(socket, 'connect')
    return { socket, heard }
  }
  return { proxy, connect, count: () => connections }
}

scenario('a cut is silent both ways, and what it held arrives late', async (scene) => {
  const { proxy, connect, count } = await shouting(scene)
  const { socket, heard } = await connect()
  socket.write('a')
  await until('the first answer', () => heard.text === 'A')

  proxy.cut()
  socket.write('b')
  const second = await connect()
  second.socket.write('x')
  await assert.rejects(until('nothing passes', () => heard.text !== 'A' || heard.ended || second.heard.text, { within: 300 }), TooLate)
  assert.equal(count(), 1)

  proxy.heal()
  await until('what was held arrives', () => heard.text === 'AB' && second.heard.text === 'X')
})

scenario('who leaves during a cut is missed after it', async (scene) => {
  const { proxy, connect } = await shouting(scene)
  const { socket, heard } = await connect()
  socket.write('a')
  await until('the first answer', () => heard.text === 'A')
  proxy.cut()
  socket.destroy()
  await until('the proxy keeps the other side', () => proxy.links === 1)
  proxy.heal()
  await until('it is told', () => proxy.links === 0)
})

scenario('a reset is told at once, and the next connection works', async (scene) => {
  const { proxy, connect } = await shouting(scene)
  const first = await connect()
  first.socket.write('a')
  await until('the first answer', () => first.heard.text === 'A')
  proxy.reset()
  await until('the connection breaks', () => first.heard.ended !== '')
  const second = await connect()
  second.socket.write('b')
  await until('the second answer', () => second.heard.text === 'B')
})

test('a scene ends its parts in reverse, and tells unexpected problems only', async () => {
  const scene = new Scene()
  /** @type {string[]} */
  const ended = []
  scene.onEnd(() => ended.push('first'))
  scene.onEnd(() => ended.push('second'))
  scene.expect(/expected/)
  scene.problem('this is expected')
  scene.check()
  scene.problem('this is not')
  assert.throws(() => scene.check(), /this is not/)
  await scene.end()
  assert.deepEqual(ended, ['second', 'first'])
})
