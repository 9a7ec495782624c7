// @ts-check
/**
 * All set-up: what `npm start`, `npm test`, `npm run build` and `npm run bench` do first. It needs Node's own modules
 * only, asks for no rights, and does nothing where nothing is missing.
 */

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import { browserProgram } from './lib/browser.mjs'
import { root } from './lib/paths.mjs'
import { ask, run } from './lib/run.mjs'
import { Failure, program, say, step } from './lib/terminal.mjs'

const NODE_MINIMUM = [20, 19]
const RUST_MINIMUM = [1, 90]
const WASM_TARGET = 'wasm32-unknown-unknown'

/**
 * @param {object} need
 * @param {boolean} need.browser tests need a browser; nothing else does
 * @param {boolean} [need.strace] a test of the relay's store records what it syncs, on Linux
 */
export async function setUp({ browser, strace = false }) {
  checkNode()
  await checkRust()
  await checkC()
  await installPackages()
  await addWasmTarget()
  if (browser) await installBrowser()
  if (strace) await installStrace()
}

function checkNode() {
  if (!isAtLeast(process.versions.node, NODE_MINIMUM)) {
    throw new Failure(`Node ${NODE_MINIMUM.join('.')} or newer is needed; this is ${process.versions.node}. See https://nodejs.org.`)
  }
}

async function checkRust() {
  const version = await ask('rustc', ['--version'])
  if (version === undefined) throw new Failure('Rust is not installed, or not on the PATH. Install it from https://rustup.rs.')
  if (!isAtLeast(version.split(' ')[1] ?? '', RUST_MINIMUM)) {
    throw new Failure(`Rust ${RUST_MINIMUM.join('.')} or newer is needed; this is ${version}. Run \`rustup update\`.`)
  }
}

/** The relay's allocator is made from C, with make, and linking needs the compiler everywhere. */
async function checkC() {
  if (process.platform === 'win32') return
  const has = async (/** @type {string[]} */ ...names) => {
    const versions = await Promise.all(names.map((name) => ask(name, ['--version'])))
    return versions.some((version) => version !== undefined)
  }
  if (!(await has(process.env.CC ?? 'cc', 'gcc', 'clang')) || !(await has('make', 'gmake'))) {
    throw new Failure('A C compiler and make are needed. On Debian and Ubuntu: apt-get install build-essential; on macOS: xcode-select --install.')
  }
}

/** `npm ci`, where what is installed is older than the lock. npm writes the hidden lock last. */
async function installPackages() {
  const installed = join(root, 'node_modules', '.package-lock.json')
  const fresh = existsSync(installed) && statSync(installed).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs
  if (fresh) return
  await step('Set-up: npm packages', () => npm(['ci', '--loglevel=error']))
}

/** @param {string[]} args */
function npm(args) {
  // Started by npm itself, its own program is known: no search on the PATH and no `.cmd`.
  const own = process.env.npm_execpath
  return own?.endsWith('.js') ? run(process.execPath, [own, ...args]) : run('npm', args)
}

async function addWasmTarget() {
  const libraries = await ask('rustc', ['--print', 'target-libdir', '--target', WASM_TARGET])
  if (libraries !== undefined && existsSync(libraries)) return
  if ((await ask('rustup', ['--version'])) === undefined) {
    throw new Failure(`Rust's target ${WASM_TARGET} is missing, and there is no rustup to add it. Install Rust from https://rustup.rs.`)
  }
  await step(`Set-up: Rust target ${WASM_TARGET}`, () => run('rustup', ['target', 'add', WASM_TARGET]))
}

/** Debian's Chromium, where we may install it. */
async function installBrowser() {
  if (browserProgram() !== undefined) return
  if (!isDebian()) {
    say('No Chromium was found for the browser tests: install Chromium or Chrome, or name its program in HONGYAN_CHROMIUM.')
    return
  }
  await step('Set-up: Chromium', (progress) => installDebian(['chromium', 'fonts-noto-cjk'], progress))
}

async function installStrace() {
  if (process.platform !== 'linux' || (await ask('strace', ['--version'])) !== undefined) return
  if (!isDebian()) {
    say('No strace was found for the tests of power cuts: install it.')
    return
  }
  await step('Set-up: strace', (progress) => installDebian(['strace'], progress))
}

/** Where we may install packages. */
function isDebian() {
  return process.platform === 'linux' && existsSync('/usr/bin/apt-get') && process.getuid?.() === 0
}

/**
 * @param {string[]} packages
 * @param {import('./lib/terminal.mjs').Progress} progress
 */
async function installDebian(packages, progress) {
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  progress.doing = 'apt-get update'
  await run('apt-get', ['update', '-q'], { env })
  progress.doing = `apt-get install ${packages[0]}`
  await run('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...packages], { env })
}

/**
 * @param {string} version such as `1.95.0`
 * @param {number[]} minimum
 */
function isAtLeast(version, [major = 0, minor = 0]) {
  const [a = 0, b = 0] = version.split('.').map(Number)
  return a > major || (a === major && b >= minor)
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await program(async () => {
    await setUp({ browser: true, strace: true })
    say('Everything that is needed is there.')
  })
}
