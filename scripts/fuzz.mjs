// @ts-check
/**
 * `npm run fuzz [-- --minutes N] [TARGET …]`: set-up of libFuzzer, then coverage-guided fuzzing of each target in turn,
 * one core, new inputs on each run. What it found is in `tests/fuzz/regressions/`, where `cargo test` replays it.
 */

import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { root, target, work } from './lib/paths.mjs'
import { ask, run } from './lib/run.mjs'
import { setUp } from './setup.mjs'
import { Failure, program, say, seconds, step, table } from './lib/terminal.mjs'

const VERSION = '0.13.2'
const DEFAULT_MINUTES = 10
/** An input that takes longer, or needs more, is a finding. */
const INPUT_SECONDS_MAX = 20
const MEMORY_MB_MAX = 2048

const home = join(root, 'tests', 'fuzz')
const tools = join(target, 'tools')
const build = join(target, 'fuzz')
/** What grows from run to run; the small part that is kept for everybody is in `tests/fuzz/corpus/`. */
const grown = join(work, 'fuzz-corpus')

await program(async () => {
  const { minutes, targets } = options()
  await setUp({ browser: false })
  await install()
  await compile()
  const each = (minutes * 60) / targets.length
  say(`Fuzzing ${targets.length} target${targets.length === 1 ? '' : 's'}, ${seconds(each * 1000)} each.`)
  /** @type {string[][]} */
  const rows = []
  let findings = 0
  for (const name of targets) {
    const result = await step(`Fuzz ${name}`, (progress) => fuzz(name, each, progress))
    findings += result.findings.length
    rows.push([name, String(result.executions), String(result.rate), String(result.corpus), String(result.findings.length)])
    for (const finding of result.findings) say(`             found: ${finding}`)
  }
  say('')
  table(['target', 'executions', 'executions/s', 'corpus', 'findings'], rows)
  if (findings > 0) {
    throw new Failure('Something was found. `cargo test -p hongyan-fuzz` replays it, and fails until it is mended.')
  }
})

function options() {
  const known = readdirSync(join(home, 'libfuzzer', 'targets')).map((file) => file.replace(/\.rs$/, ''))
  const { values, positionals } = parseArgs({ options: { minutes: { type: 'string' } }, allowPositionals: true })
  const minutes = Number(values.minutes ?? DEFAULT_MINUTES)
  if (!(minutes > 0)) throw new Failure('--minutes wants a number above 0.')
  const unknown = positionals.find((name) => !known.includes(name))
  if (unknown !== undefined) throw new Failure(`There is no target "${unknown}"; the targets are ${known.join(', ')}.`)
  return { minutes, targets: positionals.length > 0 ? positionals : known }
}

/** cargo-fuzz knows the compiler's flags for coverage; stable Rust takes them all when no sanitizer is asked for. */
async function install() {
  if (process.platform === 'win32') throw new Failure('libFuzzer needs Linux or macOS.')
  if ((await ask('c++', ['--version'])) === undefined) {
    throw new Failure('libFuzzer needs a C++ compiler. On Debian and Ubuntu: apt-get install g++; on macOS: xcode-select --install.')
  }
  const own = join(tools, 'bin', 'cargo-fuzz')
  if ((await ask(own, ['--version']))?.includes(VERSION)) return
  await step(`Set-up: cargo-fuzz ${VERSION}`, (progress) =>
    run('cargo', ['install', 'cargo-fuzz', '--version', VERSION, '--locked', '--root', tools], { progress }))
}

async function compile() {
  await step('Compile the targets with coverage', (progress) =>
    run(join(tools, 'bin', 'cargo-fuzz'), ['build', '--fuzz-dir', join(home, 'libfuzzer'), '--sanitizer', 'none'], {
      env: { CARGO_TARGET_DIR: build },
      progress,
    }))
}

/**
 * Runs one target for so long; a finding does not end its time.
 * @param {string} name
 * @param {number} time in seconds
 * @param {import('./lib/terminal.mjs').Progress} progress
 */
async function fuzz(name, time, progress) {
  const [kept, growing, found] = [join(home, 'corpus', name), join(grown, name), join(work, 'fuzz-found', name)]
  rmSync(found, { recursive: true, force: true })
  for (const folder of [kept, growing, found]) mkdirSync(folder, { recursive: true })
  const host = /^host: (.*)$/m.exec((await ask('rustc', ['-vV'])) ?? '')?.[1] ?? ''
  const binary = join(build, host, 'release', name)
  if (!existsSync(binary)) throw new Failure(`cargo-fuzz left no program at ${binary}.`)
  const started = performance.now()
  let executions = 0
  let corpus = 0
  for (;;) {
    const left = Math.floor(time - (performance.now() - started) / 1000)
    if (left < 1 && executions > 0) break
    const log = join(work, `fuzz-${name}.log`)
    const before = readdirSync(found).length
    // The shell keeps libFuzzer's log in a file: it is long, and only its last lines are wanted.
    const line = '"$0" "$1" "$2" "$3" "$4" "$5" "$6" "$7" > "$8" 2>&1 || true'
    await run('sh', ['-c', line, binary, growing, kept, `-max_total_time=${Math.max(left, 1)}`, `-timeout=${INPUT_SECONDS_MAX}`,
      `-rss_limit_mb=${MEMORY_MB_MAX}`, '-print_final_stats=1', `-artifact_prefix=${found}/`, log])
    const text = readFileSync(log, 'utf8')
    const ran = Number(/^stat::number_of_executed_units:\s*(\d+)/m.exec(text)?.[1] ?? /^Done (\d+) runs/m.exec(text)?.[1] ?? 0)
    executions += Math.max(ran, lastCount(text))
    corpus = Number([...text.matchAll(/ corp: (\d+)\//g)].at(-1)?.[1] ?? corpus)
    progress.doing = `${executions} executions`
    const now = readdirSync(found).length
    if (now === before && left >= 1 && executions === 0) throw new Failure(`${name} did not run.`, text)
    // The same finding again and again: its time is over.
    if (now === before && /ERROR: libFuzzer/.test(text)) break
  }
  const taken = (performance.now() - started) / 1000
  return { executions, corpus, rate: Math.round(executions / taken), findings: keep(name, found) }
}

/** @param {string} text libFuzzer's log, of a run that ended with a finding */
function lastCount(text) {
  return Number([...text.matchAll(/^#(\d+)\t/gm)].at(-1)?.[1] ?? 0)
}

/**
 * Findings become regressions.
 * @param {string} name
 * @param {string} found
 */
function keep(name, found) {
  const folder = join(home, 'regressions', name)
  mkdirSync(folder, { recursive: true })
  return readdirSync(found).map((file) => {
    copyFileSync(join(found, file), join(folder, file))
    return `tests/fuzz/regressions/${name}/${file}`
  })
}
