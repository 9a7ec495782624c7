// @ts-check
/** A network that can break: a TCP proxy on 127.0.0.1. */

import { once } from 'node:events'
import net from 'node:net'

/** @typedef {{ client: net.Socket, server: net.Socket | undefined }} Link */

export class Proxy {
  /** @type {Set<Link>} */
  #links = new Set()
  #isCut = false
  /** @type {net.Server} */
  #listener

  /** @param {() => number} target the port that it leads to, asked at each connection */
  constructor(target) {
    this.target = target
    this.#listener = net.createServer({ allowHalfOpen: true }, (client) => this.#accept(client))
  }

  /**
   * @param {import('./scene.mjs').Scene} scene
   * @param {() => number} target
   */
  static async open(scene, target) {
    const proxy = new Proxy(target)
    proxy.#listener.listen(0, '127.0.0.1')
    await once(proxy.#listener, 'listening')
    scene.onEnd(() => proxy.close())
    return proxy
  }

  get port() {
    return /** @type {net.AddressInfo} */ (this.#listener.address()).port
  }

  get origin() {
    return `http://127.0.0.1:${this.port}`
  }

  /** How many connections it carries. */
  get links() {
    return this.#links.size
  }

  /** Bytes stop both ways and nobody is told; what connects now waits too. */
  cut() {
    this.#isCut = true
    for (const { client, server } of this.#links) {
      client.pause()
      server?.pause()
    }
  }

  /** What stopped goes on, late. What was closed meanwhile is told now. */
  heal() {
    this.#isCut = false
    for (const link of [...this.#links]) {
      if (link.client.destroyed || link.server?.destroyed) this.#drop(link)
      else if (link.server === undefined) this.#connect(link)
      else {
        link.client.resume()
        link.server.resume()
      }
    }
  }

  /** Every connection breaks at once, as when a router restarts. */
  reset() {
    for (const link of [...this.#links]) this.#drop(link, true)
  }

  async close() {
    this.reset()
    this.#listener.close()
    await once(this.#listener, 'close')
  }

  /** @param {net.Socket} client */
  #accept(client) {
    /** @type {Link} */
    const link = { client, server: undefined }
    this.#links.add(link)
    client.pause()
    client.setNoDelay(true)
    this.#watch(link, client)
    if (!this.#isCut) this.#connect(link)
  }

  /** @param {Link} link */
  #connect(link) {
    const server = net.connect({ port: this.target(), host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    link.server = server
    this.#watch(link, server)
    forward(link.client, server)
    forward(server, link.client)
    if (this.#isCut) this.cut()
  }

  /**
   * @param {Link} link
   * @param {net.Socket} socket
   */
  #watch(link, socket) {
    socket.on('error', () => socket.destroy())
    socket.on('close', (failed) => {
      if (!this.#isCut) this.#drop(link, failed)
    })
  }

  /**
   * @param {Link} link
   * @param {boolean} [abruptly]
   */
  #drop(link, abruptly = false) {
    this.#links.delete(link)
    for (const socket of [link.client, link.server]) {
      if (socket === undefined || socket.destroyed) continue
      if (abruptly) socket.resetAndDestroy()
      else socket.destroy()
    }
  }
}

/**
 * As `pipe`, but a paused socket stays paused whatever the other one drains.
 * @param {net.Socket} from
 * @param {net.Socket} to
 */
function forward(from, to) {
  from.on('data', (bytes) => to.write(bytes))
  from.on('end', () => to.end())
  from.resume()
}
