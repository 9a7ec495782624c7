// @ts-check
/**
 * What stands before a relay in the world: a web server that has the pages, and hands `/ws` and `/dev/token` on to
 * the relay. So pages load while the relay is down (the relay's own `/demo/` would not), all on one origin.
 *
 * - `/demo/…` is web-demo/dist;
 * - `/sdk/hongyan/…` is sdk-wasm/pkg, `/sdk/vue.js` is Vue, `/sdk/` an empty page;
 * - everything else goes to the relay: 502 while it is down.
 */

import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import http from 'node:http'
import net from 'node:net'
import { extname, join, normalize } from 'node:path'

import { demo, nodeModule, pkg } from '../../../scripts/lib/paths.mjs'

/** @type {Record<string, string>} */
const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.webmanifest': 'application/manifest+json',
}

/** As strict as the relay's own pages: the SDK must not need more. */
const POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; connect-src 'self' http://127.0.0.1:* ws://127.0.0.1:*"

const EMPTY_PAGE = '<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,"><title>A page</title><body></body></html>'

export class Front {
  /** @type {Set<net.Socket>} */
  #sockets = new Set()

  /** @param {() => number} relayPort */
  constructor(relayPort) {
    this.relayPort = relayPort
    this.server = http.createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy())
    })
    this.server.on('upgrade', (request, socket, head) => this.#upgrade(request, /** @type {net.Socket} */ (socket), head))
    this.server.on('connection', (socket) => this.#keep(socket))
  }

  /**
   * @param {import('./scene.mjs').Scene} scene
   * @param {() => number} relayPort
   */
  static async open(scene, relayPort) {
    const front = new Front(relayPort)
    front.server.listen(0, '127.0.0.1')
    await once(front.server, 'listening')
    scene.onEnd(() => front.close())
    return front
  }

  get port() {
    return /** @type {net.AddressInfo} */ (this.server.address()).port
  }

  get origin() {
    return `http://127.0.0.1:${this.port}`
  }

  async close() {
    this.server.close()
    for (const socket of this.#sockets) socket.destroy()
    await once(this.server, 'close')
  }

  /** @param {net.Socket} socket */
  #keep(socket) {
    this.#sockets.add(socket)
    socket.on('close', () => this.#sockets.delete(socket))
  }

  /**
   * @param {http.IncomingMessage} request
   * @param {http.ServerResponse} response
   */
  async #answer(request, response) {
    const path = new URL(request.url ?? '/', this.origin).pathname
    if (path === '/sdk/') return send(response, '.html', EMPTY_PAGE)
    const file = this.#file(path)
    if (file === undefined) return this.#pass(request, response)
    try {
      send(response, extname(file), await readFile(file))
    } catch {
      response.writeHead(404).end()
    }
  }

  /** @param {string} path */
  #file(path) {
    const inside = (/** @type {string} */ folder, /** @type {string} */ rest) => join(folder, normalize(`/${rest}`))
    if (path === '/sdk/vue.js') return nodeModule('vue/dist/vue.runtime.esm-browser.prod.js')
    if (path.startsWith('/sdk/hongyan/')) return inside(pkg, path.slice('/sdk/hongyan/'.length))
    if (path === '/demo/') return join(demo, 'dist', 'index.html')
    if (path.startsWith('/demo/')) return inside(join(demo, 'dist'), path.slice('/demo/'.length))
    return undefined
  }

  /**
   * @param {http.IncomingMessage} request
   * @param {http.ServerResponse} response
   */
  #pass(request, response) {
    const { method, url, headers } = request
    const onward = http.request({ host: '127.0.0.1', port: this.relayPort(), method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    })
    onward.on('error', () => {
      if (response.headersSent) response.destroy()
      else response.writeHead(502).end()
    })
    request.pipe(onward)
  }

  /**
   * @param {http.IncomingMessage} request
   * @param {net.Socket} socket
   * @param {Buffer} head
   */
  #upgrade(request, socket, head) {
    const relay = net.connect({ host: '127.0.0.1', port: this.relayPort(), noDelay: true })
    socket.setNoDelay(true)
    this.#keep(relay)
    const lines = [`${request.method} ${request.url} HTTP/1.1`]
    for (let index = 0; index < request.rawHeaders.length; index += 2) {
      lines.push(`${request.rawHeaders[index]}: ${request.rawHeaders[index + 1]}`)
    }
    relay.write(`${lines.join('\r\n')}\r\n\r\n`)
    relay.write(head)
    relay.pipe(socket).pipe(relay)
    for (const [one, other] of [[relay, socket], [socket, relay]]) {
      one?.on('error', () => other?.destroy())
      one?.on('close', () => other?.destroy())
    }
  }
}

/**
 * @param {http.ServerResponse} response
 * @param {string} type
 * @param {string | Buffer} body
 */
function send(response, type, body) {
  response.writeHead(200, {
    'content-type': TYPES[type] ?? 'application/octet-stream',
    'content-security-policy': POLICY,
    'cache-control': 'no-cache',
  })
  response.end(body)
}
