// @ts-check
/** What people read while the scripts work: one calm line per step, with its time. */

/** A step that runs longer than this says so; then each time after twice as long, and once a minute at least. */
const STILL_WORKING_MS = 15_000
const STILL_WORKING_MS_MAX = 60_000

/** A failure whose sentence is all that a person needs; anything else is a bug of ours and shows its stack. */
export class Failure extends Error {
  /**
   * @param {string} sentence
   * @param {string} [details] output of the program that failed, shown above the sentence
   */
  constructor(sentence, details = '') {
    super(sentence)
    this.details = details
  }
}

/** @param {string} line */
export function say(line) {
  process.stdout.write(`${line}\n`)
}

/** @param {number} ms */
export function seconds(ms) {
  const total = ms / 1000
  if (total < 60) return `${total.toFixed(1)} s`
  return `${Math.floor(total / 60)} min ${String(Math.round(total % 60)).padStart(2, '0')} s`
}

/**
 * @typedef {{ doing: string }} Progress what a step is at, for the line that says it still works
 */

/**
 * Runs one step and prints its line. A step that returns `'unchanged'` had nothing to do.
 * @template T
 * @param {string} title
 * @param {(progress: Progress) => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function step(title, work) {
  const started = performance.now()
  const progress = { doing: '' }
  let pause = STILL_WORKING_MS
  const still = () => {
    say(`   … ${title}: ${seconds(performance.now() - started)}${progress.doing ? `, ${progress.doing}` : ''}`)
    heartbeat = setTimeout(still, pause)
    pause = Math.min(2 * pause, STILL_WORKING_MS_MAX)
  }
  let heartbeat = setTimeout(still, pause)
  try {
    const result = await work(progress)
    const time = seconds(performance.now() - started).padStart(12)
    say(result === 'unchanged' ? `${'unchanged'.padStart(12)}  ${title}` : `${time}  ${title}`)
    return result
  } catch (error) {
    say(`${'failed'.padStart(12)}  ${title}`)
    throw error
  } finally {
    clearTimeout(heartbeat)
  }
}

/**
 * A table with aligned columns; numbers stand at the right.
 * @param {string[]} head
 * @param {string[][]} rows
 */
export function table(head, rows) {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => (row[i] ?? '').length)))
  const numeric = head.map((_, i) => rows.every((row) => /^[-–\d.,× %]*( [A-Za-zµ/]+)?$/.test(row[i] ?? '')))
  /** @param {string[]} row */
  const line = (row) =>
    row.map((cell, i) => (numeric[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0))).join('  ').trimEnd()
  say(line(head))
  say(widths.map((width) => '─'.repeat(width)).join('  '))
  for (const row of rows) say(line(row))
}

/**
 * Runs a script's main function; turns a {@link Failure} into its sentence and exit code 1.
 * @param {() => Promise<void>} main
 */
export async function program(main) {
  try {
    await main()
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    if (error.details) process.stderr.write(`${error.details.trimEnd()}\n\n`)
    process.stderr.write(`${error.message}\n`)
    process.exitCode = 1
  }
}
