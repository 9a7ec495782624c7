// @ts-check
/**
 * `npm start [-- --port N --data DIR]`: all set-up, then the relay in development mode with the demo.
 * `PORT` and `DATA_DIR` in the environment say the same; the flags win.
 */

import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'

import { buildDemo, buildRelay } from './lib/app.mjs'
import { exclusively } from './lib/lock.mjs'
import { relayProgram, root } from './lib/paths.mjs'
import { buildSdk } from './lib/sdk.mjs'
import { Failure, program, say } from './lib/terminal.mjs'
import { setUp } from './setup.mjs'

const HOST = '127.0.0.1'
const PORT_DEFAULT = '8787'
/** A relay with a big store needs a while to open it; longer than this is a fault. */
const READY_WITHIN_MS = 120_000
const LOOK_AGAIN_MS = 100
/** An `npm start` that was ended from outside stops its relay within this time. */
const PARENT_GONE_MS = 250
/** npm may pass on a Ctrl-C that came here by itself as well: that is one, not two. */
const SAME_SIGNAL_MS = 1_000

await program(async () => {
  const { port, data } = options()
  await checkPort(port)
  let building = true
  onStop(() => building && process.exit(0))
  await exclusively(async () => {
    await setUp({ browser: false })
    await buildSdk({ sizes: false })
    await buildDemo()
    await buildRelay()
  })
  building = false
  await checkPort(port)
  await serve(port, data)
})

/** @returns {{ port: number, data: string }} */
function options() {
  let values
  try {
    ;({ values } = parseArgs({ options: { port: { type: 'string' }, data: { type: 'string' } } }))
  } catch (error) {
    throw new Failure(`${error instanceof Error ? error.message : error} The options are --port N and --data DIR.`)
  }
  const port = values.port ?? process.env.PORT ?? PORT_DEFAULT
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535) {
    throw new Failure(`"${port}" is not a port; it must be a number from 1 to 65535.`)
  }
  // A relative path is seen from where the person typed it, which npm remembers.
  const from = process.env.INIT_CWD ?? process.cwd()
  const given = values.data ?? process.env.DATA_DIR
  return { port: Number(port), data: given === undefined ? resolve(root, 'data') : resolve(from, given) }
}

/**
 * Says in a sentence that the port is taken, before anything else is done.
 * @param {number} port
 */
async function checkPort(port) {
  await new Promise((done, fail) => {
    const probe = createServer()
    probe.once('error', (error) => {
      const taken = 'code' in error && error.code === 'EADDRINUSE'
      fail(new Failure(taken ? `Port ${port} is in use by another program; choose one: npm start -- --port ${port + 1 > 65535 ? 8787 : port + 1}` : `Port ${port} can't be used: ${error.message}`))
    })
    probe.listen(port, HOST, () => probe.close(() => done(undefined)))
  })
}

/**
 * Runs the relay until it ends or is told to.
 * @param {number} port
 * @param {string} data
 */
async function serve(port, data) {
  mkdirSync(data, { recursive: true })
  // A group of its own: Ctrl-C in a terminal reaches the whole group, and the relay takes a second signal for haste.
  const relay = spawn(relayProgram('release'), ['serve', '--dev', '--listen', `${HOST}:${port}`, '--data', data], {
    cwd: root,
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  /** When it was told to stop. */
  let stopping = NaN
  const stop = () => {
    if (performance.now() - stopping < SAME_SIGNAL_MS) return
    relay.kill('SIGTERM')
    if (Number.isNaN(stopping)) say('\nStopping …')
    stopping = performance.now()
  }
  onStop(stop)
  const ended = new Promise((done) => {
    relay.once('error', (error) => {
      done(`The relay could not be started: ${error.message}`)
    })
    relay.once('exit', (code, signal) => {
      if (code === 0 || !Number.isNaN(stopping)) return done(undefined)
      done(`The relay ended ${signal === null ? `with exit code ${code}` : `by ${signal}`}; its last lines say why.`)
    })
  })

  const first = await Promise.race([ended.then((reason) => ({ reason })), ready(port, () => relay.exitCode !== null || relay.signalCode !== null)])
  if (first === 'ready' && Number.isNaN(stopping)) {
    say('')
    say('Hongyan is ready. Open it twice, sign in under two names and chat; Ctrl-C stops it.')
    say(`http://${HOST}:${port}/demo/`)
    say('')
  } else if (first === 'late') {
    relay.kill('SIGTERM')
    throw new Failure(`The relay was not ready within ${READY_WITHIN_MS / 1000} s.`)
  }
  const reason = await ended
  if (typeof reason === 'string') throw new Failure(reason)
}

/**
 * Whatever ends `npm start`: Ctrl-C, a signal, or the end of npm itself. npm runs scripts through a shell that passes
 * no signal on, so when that has gone, we go too.
 * @param {() => void} listener
 */
function onStop(listener) {
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(signal, listener)
  const parent = process.ppid
  const watch = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(watch)
    listener()
  }, PARENT_GONE_MS)
  watch.unref()
}

/**
 * Waits until the relay says that it takes clients.
 * @param {number} port
 * @param {() => boolean} hasEnded
 * @returns {Promise<'ready' | 'late' | 'ended'>}
 */
async function ready(port, hasEnded) {
  const deadline = performance.now() + READY_WITHIN_MS
  while (performance.now() < deadline) {
    if (hasEnded()) return 'ended'
    const answer = await fetch(`http://${HOST}:${port}/readyz`).catch(() => undefined)
    if (answer?.ok) return 'ready'
    await sleep(LOOK_AGAIN_MS)
  }
  return 'late'
}
