// @ts-check
/** The package as users get it: packed by npm, installed into an empty project in a temporary folder. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

import { chromium } from 'playwright-core'

import { browserProgram } from '../../scripts/lib/browser.mjs'
import { pkg } from '../../scripts/lib/paths.mjs'

/** What the relay's own pages allow, so the package must not need more. No relay answers at `/ws`. */
const POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'"

/** @type {Record<string, string>} */
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm' }

/**
 * Runs a program to its end; its output is in the error when it does not end well.
 * @param {string} command
 * @param {string[]} args
 * @param {string} cwd
 * @returns {Promise<string>}
 */
export async function run(command, args, cwd) {
  const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  let all = ''
  child.stdout.on('data', (bytes) => {
    out += bytes
    all += bytes
  })
  child.stderr.on('data', (bytes) => (all += bytes))
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}:\n${all}`)
  return out
}

/** A project with nothing in it but the installed package and the samples of `consumer/`. */
export class Project {
  /** @param {string} folder */
  constructor(folder) {
    this.folder = folder
    this.installed = join(folder, 'node_modules', 'hongyan')
  }

  static async create() {
    const folder = await mkdtemp(join(tmpdir(), 'hongyan-packaging-'))
    const quiet = ['--silent', '--no-audit', '--no-fund', '--no-update-notifier']
    await cp(fileURLToPath(new URL('consumer', import.meta.url)), folder, { recursive: true })
    await writeFile(join(folder, 'package.json'), '{ "name": "consumer", "private": true, "type": "module" }\n')
    const tarball = (await run('npm', ['pack', pkg, ...quiet], folder)).trim()
    await run('npm', ['install', '--offline', ...quiet, `./${tarball}`], folder)
    return new Project(folder)
  }

  /**
   * @param {...string} path
   */
  path(...path) {
    return join(this.folder, ...path)
  }

  remove() {
    return rm(this.folder, { recursive: true, force: true })
  }
}

/**
 * Serves a folder under a strict policy.
 * @param {string} folder
 */
export async function serve(folder) {
  /** @type {string[]} */
  const requests = []
  const server = http.createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://x').pathname
    requests.push(path)
    const file = join(folder, normalize(path.endsWith('/') ? `${path}index.html` : path))
    readFile(file).then(
      (bytes) => {
        response.setHeader('content-type', TYPES[extname(file)] ?? 'application/octet-stream')
        response.setHeader('content-security-policy', POLICY)
        response.end(bytes)
      },
      () => response.writeHead(404).end(),
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  const close = async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
  return { origin: `http://127.0.0.1:${port}`, requests, close }
}

/** The installed Chromium, with a profile of its own. */
export function launch() {
  const executablePath = browserProgram()
  if (executablePath === undefined) {
    throw new Error('No Chromium was found: install Chromium or Chrome, or name its program in HONGYAN_CHROMIUM.')
  }
  const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
  return chromium.launch({ executablePath, args })
}
