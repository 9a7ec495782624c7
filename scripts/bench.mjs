// @ts-check
/**
 * `npm run bench [-- --quick] [--only NAME]… [--json FILE] [--svg FILE]`: all set-up, the release build, then the benchmarks
 * on relays that they start themselves, as one table: each figure with its unit, the machine's own limit that was
 * measured in the same run, and the ratio.
 */

import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'

import { buildDemo, buildRelay } from './lib/app.mjs'
import { exclusively } from './lib/lock.mjs'
import { figuresProgram, floodsProgram, relayProgram } from './lib/paths.mjs'
import { run } from './lib/run.mjs'
import { BUDGET_BROTLI_BYTES, buildSdk, sizesOfPackage } from './lib/sdk.mjs'
import { slopes } from './lib/slopes.mjs'
import { Failure, program, say, step, table } from './lib/terminal.mjs'
import { setUp } from './setup.mjs'

/**
 * One figure, as a part prints it: a line of JSON.
 * @typedef {object} Figure
 * @property {string} figure what was measured
 * @property {number} value
 * @property {string} unit
 * @property {{ what: string, value: number }} [beside] the limit or the peer that it is to be compared with, in the
 *   same unit
 * @property {{ of: 'ratio' | 'value', least?: number, most?: number }} [goal]
 * @property {boolean} [met] the goal
 * @property {string} [note]
 * @property {import('./lib/slopes.mjs').Slope} [slope] the curve of which it is a point
 */

/**
 * All parts, in the order in which they run. The native ones are those of `tests/bench/src/main.rs`.
 * @type {{ name: string, title: string, browser?: boolean, measure: (quick: boolean) => Promise<Figure[]> }[]}
 */
const PARTS = [
  native('sends', 'durable sends, one to one'),
  native('deliveries', 'deliveries to the members of a group'),
  native('diffusion', 'a message by copies, references and the log'),
  native('large', 'large groups'),
  native('idle', 'memory of idle connections'),
  native('sync', 'catching up, native'),
  native('stored', 'a large store: history, start, size, verify'),
  native('storm', 'everybody back after a restart'),
  { name: 'floods', title: 'what floods do to others', measure: floods },
  inBrowser('browser-sync', 'catching up in Chromium', 'sync.test.mjs'),
  inBrowser('presence', 'presence and tabs in Chromium', 'presence.test.mjs'),
  { name: 'package', title: 'sizes of the package', measure: async () => packageSizes() },
]

await program(async () => {
  const { json, svg, quick, parts } = options()
  await exclusively(async () => {
    await setUp({ browser: parts.some((part) => part.browser) })
    await buildSdk({ sizes: false })
    await buildDemo()
    await buildRelay()
    await step('Benchmark: the program', (progress) => run('cargo', ['build', '--release', '-p', 'hongyan-figures', '-p', 'hongyan-tests', '--bins'], { progress }))
  })

  say('')
  /** @type {Figure[]} */
  const figures = []
  for (const part of parts) figures.push(...(await step(`Benchmark: ${part.title}`, () => part.measure(quick))))
  say('')
  table(['figure', 'value', 'unit', 'beside it', 'ratio', 'goal'], figures.map(row))
  say('')
  for (const { figure, note } of figures) if (note !== undefined) say(`${figure}: ${note}`)
  say('')
  say(`Measured on ${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown processor'}; compare ratios, not machines.`)
  if (json !== undefined) {
    writeFileSync(json, `${JSON.stringify({ at: new Date().toISOString(), cpus: cpus().length, figures: figures.map(withRatio) }, null, 2)}\n`)
    say(`Written to ${json}.`)
  }
  if (svg !== undefined) {
    const picture = slopes(figures)
    if (picture === undefined) throw new Failure('None of these figures was measured at several sizes: there is no picture of them.')
    writeFileSync(svg, picture)
    say(`Drawn in ${svg}.`)
  }
})

function options() {
  const names = PARTS.map((part) => part.name)
  try {
    const { values } = parseArgs({
      options: { json: { type: 'string' }, svg: { type: 'string' }, only: { type: 'string', multiple: true }, quick: { type: 'boolean', default: false } },
    })
    const unknown = values.only?.find((name) => !names.includes(name))
    if (unknown !== undefined) throw new Error(`There is no part "${unknown}".`)
    const file = (/** @type {string | undefined} */ name) => (name === undefined ? undefined : resolve(process.env.INIT_CWD ?? process.cwd(), name))
    return {
      quick: values.quick,
      parts: PARTS.filter((part) => values.only === undefined || values.only.includes(part.name)),
      json: file(values.json),
      svg: file(values.svg),
    }
  } catch (error) {
    throw new Failure(`${error instanceof Error ? error.message : error} The options are --quick, --only NAME, --json FILE and --svg FILE; the names are ${names.join(', ')}.`)
  }
}

/**
 * @param {string} name
 * @param {string} title
 */
function native(name, title) {
  const measure = async (/** @type {boolean} */ quick) => {
    const output = await run(figuresProgram, [...(quick ? ['--quick'] : []), '--only', name], { env: { HONGYAN_RELAY: relayProgram('release') } })
    return figuresOf(output)
  }
  return { name, title, measure }
}

/** @param {boolean} quick */
async function floods(quick) {
  return figuresOf(await run(floodsProgram, quick ? ['--quick'] : [], { env: { HONGYAN_RELAY: relayProgram('release') } }))
}

/**
 * @param {string} name
 * @param {string} title
 * @param {string} file in `tests/bench/`
 */
function inBrowser(name, title, file) {
  const measure = async (/** @type {boolean} */ quick) => {
    const env = { HONGYAN_RELAY: relayProgram('release'), ...(quick ? { HONGYAN_BENCH_ROUNDS: '15' } : {}) }
    return figuresOf(await run(process.execPath, [`tests/bench/${file}`], { env }))
  }
  return { name, title, browser: true, measure }
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
    beside === undefined || beside.value === 0 ? '' : (figure.value / beside.value).toPrecision(2),
    goal(figure),
  ]
}

/** @param {Figure} figure */
function goal({ goal, met, unit }) {
  if (goal === undefined) return ''
  const bound = goal.least === undefined ? `≤ ${goal.most}` : `≥ ${goal.least}`
  return `${bound}${goal.of === 'value' && unit !== '' ? ` ${unit}` : ''}: ${met === true ? 'met' : 'missed'}`
}

/** @param {number} value */
function number(value) {
  return value.toLocaleString('en-US', { maximumFractionDigits: value < 100 ? 2 : 0 })
}
