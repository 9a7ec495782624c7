// @ts-check
/**
 * `npm run bench [-- --quick] [--json FILE]`: all set-up, the release build, then the benchmark (`tests/src/bin/bench.rs`),
 * what floods do to others (`tests/src/bin/floods.rs`) and the sizes of the package, as one table: each figure with its
 * unit and, where there is a limit or a peer, the ratio.
 */

import { writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'

import { buildDemo, buildRelay } from './lib/app.mjs'
import { exclusively } from './lib/lock.mjs'
import { relayProgram } from './lib/paths.mjs'
import { run } from './lib/run.mjs'
import { BUDGET_BROTLI_BYTES, buildSdk, sizesOfPackage } from './lib/sdk.mjs'
import { Failure, program, say, step, table } from './lib/terminal.mjs'
import { setUp } from './setup.mjs'

/**
 * One line of the benchmark's output, as JSON.
 * @typedef {object} Figure
 * @property {string} figure what was measured
 * @property {number} value
 * @property {string} unit
 * @property {{ what: string, value: number }} [beside] the limit or the peer that it is to be compared with, in the
 *   same unit
 */

await program(async () => {
  const { json, quick } = options()
  await exclusively(async () => {
    await setUp({ browser: true })
    await buildSdk({ sizes: false })
    await buildDemo()
    await buildRelay()
    await step('Benchmark: the program', (progress) => run('cargo', ['build', '--release', '-p', 'hongyan-tests', '--bin', 'bench', '--bin', 'floods'], { progress }))
  })

  say('')
  const measured = await step(`Benchmark: measuring; it takes ${quick ? 'half a minute' : 'some minutes'}`, () => measure('bench', quick))
  const flooded = await step(`Benchmark: floods; it takes ${quick ? 'half a minute' : 'two minutes'}`, () => measure('floods', quick))
  const seen = await step(`Benchmark: presence and tabs in Chromium; it takes ${quick ? 'two minutes' : 'ten minutes'}`, () => measureInBrowser(quick))
  const figures = [...measured, ...flooded, ...seen, ...packageSizes()]
  say('')
  table(['figure', 'value', 'unit', 'beside it', 'ratio'], figures.map(row))
  say('')
  say(`Measured on ${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown processor'}; compare ratios, not machines.`)
  if (json !== undefined) {
    writeFileSync(json, `${JSON.stringify({ at: new Date().toISOString(), cpus: cpus().length, figures: figures.map(withRatio) }, null, 2)}\n`)
    say(`Written to ${json}.`)
  }
})

function options() {
  try {
    const { values } = parseArgs({ options: { json: { type: 'string' }, quick: { type: 'boolean', default: false } } })
    return { quick: values.quick, json: values.json === undefined ? undefined : resolve(process.env.INIT_CWD ?? process.cwd(), values.json) }
  } catch (error) {
    throw new Failure(`${error instanceof Error ? error.message : error} The options are --json FILE and --quick.`)
  }
}

/**
 * @param {string} program one of those in `tests/src/bin/`
 * @param {boolean} quick shorter and rougher
 * @returns {Promise<Figure[]>}
 */
async function measure(program, quick) {
  const output = await run('cargo', ['run', '--release', '-p', 'hongyan-tests', '--bin', program, ...(quick ? ['--', '--quick'] : [])], { env: { HONGYAN_RELAY: relayProgram('release') } })
  return figuresOf(output)
}

/**
 * @param {boolean} quick fewer rounds
 * @returns {Promise<Figure[]>}
 */
async function measureInBrowser(quick) {
  const env = { HONGYAN_RELAY: relayProgram('release'), ...(quick ? { HONGYAN_BENCH_ROUNDS: '15' } : {}) }
  return figuresOf(await run(process.execPath, ['tests/bench/presence.test.mjs'], { env }))
}

/** @param {string} output */
function figuresOf(output) {
  const figures = output
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => /** @type {Figure} */ (JSON.parse(line)))
  if (figures.length === 0) throw new Failure('The benchmark printed no figure.', output)
  return figures
}

/** @returns {Figure[]} */
function packageSizes() {
  const { parts, sum } = sizesOfPackage()
  /** @param {number} bytes */
  const kilobytes = (bytes) => Math.round((bytes / 1024) * 10) / 10
  return [
    ...parts.map((part) => ({ figure: `SDK: ${part.name}, brotli`, value: kilobytes(part.brotli), unit: 'KB' })),
    { figure: 'SDK: together, brotli', value: kilobytes(sum.brotli), unit: 'KB', beside: { what: 'budget', value: kilobytes(BUDGET_BROTLI_BYTES) } },
  ]
}

/** @param {Figure} figure */
function withRatio(figure) {
  return figure.beside === undefined ? figure : { ...figure, ratio: figure.value / figure.beside.value }
}

/** @param {Figure} figure */
function row(figure) {
  const { beside } = figure
  return [
    figure.figure,
    number(figure.value),
    figure.unit,
    beside === undefined ? '' : `${number(beside.value)} ${beside.what}`,
    beside === undefined ? '' : (figure.value / beside.value).toPrecision(2),
  ]
}

/** @param {number} value */
function number(value) {
  return value.toLocaleString('en-US', { maximumFractionDigits: value < 100 ? 2 : 0 })
}
