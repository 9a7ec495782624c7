// @ts-check
/** The relay as people run it: its program, a folder of its own, and the power switch. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { relayProgram } from '../../../scripts/lib/paths.mjs'
import { until } from './wait.mjs'

const LOG_BYTES_MAX = 16 * 1024 * 1024

export class Relay {
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #process
  #dying = false
  /** Everything that it ever printed. */
  log = ''
  /** Asked of the system at the first start, kept from then on. */
  port = 0

  /**
   * @param {import('./scene.mjs').Scene} scene
   * @param {string} folder
   * @param {Record<string, string>} settings
   */
  constructor(scene, folder, settings) {
    this.scene = scene
    this.folder = folder
    this.settings = settings
  }

  /**
   * Starts one in a new folder.
   * @param {import('./scene.mjs').Scene} scene
   * @param {Record<string, string>} [settings] environment variables (`HONGYAN_…`)
   */
  static async start(scene, settings = {}) {
    const folder = await mkdtemp(join(tmpdir(), 'hongyan-browser-test-'))
    scene.onEnd(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }))
    const relay = new Relay(scene, folder, settings)
    scene.onEnd(() => relay.kill())
    scene.shows('relay', () => `${relay.isUp ? 'running' : 'not running'}; its log ends:\n${relay.log.slice(-3_000)}`)
    await relay.start()
    return relay
  }

  get isUp() {
    return this.#process !== undefined
  }

  get origin() {
    return `http://127.0.0.1:${this.port}`
  }

  /** Starts it, again on the same port and folder, and waits until it is ready. */
  async start() {
    const program = process.env.HONGYAN_RELAY ?? relayProgram('release')
    if (!existsSync(program)) throw new Error(`${program} is missing: \`npm test\` builds it.`)
    const args = ['serve', '--dev', '--listen', `127.0.0.1:${this.port}`, '--data', join(this.folder, 'data')]
    const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('HONGYAN_')))
    const child = spawn(program, args, {
      cwd: this.folder,
      env: { ...clean, NO_COLOR: '1', ...this.settings },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#process = child
    this.#dying = false
    const from = this.log.length
    const take = (/** @type {Buffer} */ bytes) => {
      if (this.log.length < LOG_BYTES_MAX) this.log += bytes.toString('utf8')
    }
    child.stdout.on('data', take)
    child.stderr.on('data', take)
    child.on('error', (error) => this.scene.problem(`The relay could not be started: ${error.message}`))
    child.on('exit', (code, signal) => {
      if (this.#process === child) this.#process = undefined
      if (!this.#dying) this.scene.problem(`The relay ended by itself: ${signal ?? code}`)
    })
    await until(
      'the relay says that it is ready',
      async () => {
        if (this.#process !== child) throw new Error('The relay has ended.')
        const found = /http:\/\/127\.0\.0\.1:(\d+)/.exec(this.log.slice(from))
        if (found === null) return false
        this.port = Number(found[1])
        return (await fetch(`${this.origin}/readyz`)).ok
      },
      { seen: () => this.log.slice(from) },
    )
  }

  /** SIGKILL: nothing of it gets the chance to tidy up. */
  async kill() {
    const child = this.#process
    if (child === undefined) return
    this.#dying = true
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }

  /**
   * A token of the development mode.
   * @param {string} user
   */
  async token(user) {
    const response = await fetch(`${this.origin}/dev/token?user=${encodeURIComponent(user)}`)
    if (!response.ok) throw new Error(`/dev/token answered ${response.status}`)
    return (await response.text()).trim()
  }
}
