// @ts-check
/**
 * `npm test [-- GROUP … --keep-going]`: all set-up, then every test, one step after the other. It stops at the first
 * step that fails, unless told to keep going.
 */

import { readdirSync } from 'node:fs'
import { join } from 'node:path'

import { buildDemo, buildRelay } from './lib/app.mjs'
import { exclusively } from './lib/lock.mjs'
import { demo, nodeModule, root } from './lib/paths.mjs'
import { run } from './lib/run.mjs'
import { buildSdk } from './lib/sdk.mjs'
import { Failure, program, say, seconds, step, table } from './lib/terminal.mjs'
import { setUp } from './setup.mjs'

/** Two pages with a relay fill two cores; more at once would only measure the machine. */
const BROWSER_FILES_AT_ONCE = 2

/** The build stands in the summary as one step. */
const BUILD = 'Build'

const NATIVE = ['--workspace', '--exclude', 'hongyan-sdk-wasm']
const WASM = ['-p', 'hongyan-sdk-wasm', '--target', 'wasm32-unknown-unknown']
const DENY = ['--', '-D', 'warnings']

/**
 * Every step, in the order in which they run: what is quick and often wrong comes first.
 * @type {{ group: string, name: string, needsBuild?: boolean, show?: boolean, command: () => string[] }[]}
 */
const STEPS = [
  { group: 'lint', name: 'Cargo.lock fits Cargo.toml', command: () => ['cargo', 'metadata', '--locked', '--format-version', '1'] },
  { group: 'lint', name: 'Rust is formatted', command: () => ['cargo', 'fmt', '--all', '--check'] },
  { group: 'lint', name: 'Clippy: native crates', command: () => ['cargo', 'clippy', ...NATIVE, '--all-targets', ...DENY] },
  { group: 'lint', name: 'Clippy: the browser crate', command: () => ['cargo', 'clippy', ...WASM, ...DENY] },
  {
    group: 'lint',
    name: "Clippy: the relay's core without its server",
    command: () => ['cargo', 'clippy', '-p', 'hongyan-relay', '--no-default-features', '--all-targets', ...DENY],
  },
  { group: 'rust', name: 'Rust tests', show: true, command: () => ['cargo', 'test', '--no-fail-fast', ...NATIVE, '--exclude', 'hongyan-sim'] },
  {
    group: 'sim',
    name: 'Simulated worlds, and deliberate defects',
    show: true,
    command: () => ['cargo', 'test', '--no-fail-fast', '--profile', 'sim', '-p', 'hongyan-sim', '--features', 'defects', '--', '--nocapture'],
  },
  { group: 'types', name: 'TypeScript: scripts and tests', needsBuild: true, command: () => tsc('--project', 'scripts/tsconfig.json') },
  { group: 'types', name: 'TypeScript: demo', needsBuild: true, command: () => node(nodeModule('vue-tsc/bin/vue-tsc.js'), '--noEmit', '--project', demo) },
  { group: 'unit', name: 'JavaScript unit tests', needsBuild: true, show: true, command: () => ['npm', 'test', '--silent', '--workspace', 'web-demo'] },
  { group: 'packaging', name: 'Packaging tests', needsBuild: true, show: true, command: () => nodeTests('tests/packaging', 1) },
  { group: 'browser', name: 'Browser tests', needsBuild: true, show: true, command: () => nodeTests('tests/browser', BROWSER_FILES_AT_ONCE) },
  { group: 'browser', name: 'Browser tests, one at a time', needsBuild: true, show: true, command: () => nodeTests('tests/browser/alone', 1) },
]

/** @param {string[]} args */
const node = (...args) => [process.execPath, ...args]

/** @param {string[]} args */
const tsc = (...args) => node(nodeModule('typescript/bin/tsc'), ...args)

/**
 * @param {string} folder
 * @param {number} atOnce files at once
 */
function nodeTests(folder, atOnce) {
  const files = readdirSync(join(root, folder)).filter((name) => name.endsWith('.test.mjs')).map((name) => join(folder, name))
  if (files.length === 0) throw new Failure(`There is no test in ${folder}.`)
  return node('--test', `--test-concurrency=${atOnce}`, '--test-reporter=spec', ...files)
}

await program(async () => {
  const args = process.argv.slice(2)
  const keepGoing = args.includes('--keep-going')
  const steps = chosen(args.filter((arg) => arg !== '--keep-going'))
  const needsBuild = steps.some((one) => one.needsBuild)
  const started = performance.now()

  await exclusively(() => setUp({ browser: needsBuild, strace: steps.some((one) => one.group === 'rust') }))

  /** @type {string[][]} */
  const results = []
  /** @type {Set<string>} */
  const failed = new Set()
  /**
   * @param {string} name
   * @param {() => Promise<unknown>} job
   */
  const record = async (name, job) => {
    const began = performance.now()
    let result = 'passed'
    try {
      await job()
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      if (error.details) process.stderr.write(`${error.details.trimEnd()}\n`)
      process.stderr.write(`${error.message}\n`)
      failed.add(name)
      result = 'FAILED'
    }
    results.push([name, result, seconds(performance.now() - began)])
  }

  for (const one of steps) {
    if (failed.size > 0 && !keepGoing) break
    if (one.needsBuild && !results.some(([name]) => name === BUILD)) await record(BUILD, build)
    if (failed.has(BUILD) && one.needsBuild) {
      results.push([one.name, 'not run', ''])
      continue
    }
    await record(one.name, () =>
      step(one.name, async (progress) => {
        const [command = '', ...rest] = one.command()
        if (one.show) say(`\n── ${one.name} ──`)
        await run(command, rest, { show: one.show ?? false, progress })
      }),
    )
  }

  say('')
  table(['step', 'result', 'time'], results)
  say('')
  const missing = steps.length + (needsBuild ? 1 : 0) - results.length
  if (failed.size > 0) {
    const rest = missing > 0 ? ` ${missing} more were not run (npm test -- --keep-going runs all).` : ''
    throw new Failure(`Failed: ${[...failed].join(', ')}.${rest}`)
  }
  say(`All ${results.length} steps passed in ${seconds(performance.now() - started)}.`)
})

/**
 * The steps of the groups that were named; all without a name.
 * @param {string[]} groups
 */
function chosen(groups) {
  const known = [...new Set(STEPS.map((one) => one.group))]
  const unknown = groups.find((group) => !known.includes(group))
  if (unknown !== undefined) throw new Failure(`There is no group "${unknown}"; the groups are ${known.join(', ')}.`)
  return groups.length === 0 ? STEPS : STEPS.filter((one) => groups.includes(one.group))
}

async function build() {
  await exclusively(async () => {
    await buildSdk({ sizes: true })
    await buildDemo()
    await buildRelay()
  })
}
