// @ts-check
/** Runs other programs: quietly, with their output kept for the case of failure, or shown as it comes. */

import { spawn } from 'node:child_process'
import { basename } from 'node:path'
import { createInterface } from 'node:readline'

import { root } from './paths.mjs'
import { Failure } from './terminal.mjs'

/** Cargo's lines about its own progress: shown as what a step is at, not one by one. */
const CARGO_PROGRESS = /^\s*(Compiling|Checking|Building|Downloading|Downloaded|Updating|Locking|Adding|Blocking|Fresh|Dirty|Finished)\b/

/**
 * @typedef {object} RunOptions
 * @property {string} [cwd] default: the root of the project
 * @property {Record<string, string | undefined>} [env] added to this process's own
 * @property {boolean} [show] show the output as it comes, instead of only on failure
 * @property {import('./terminal.mjs').Progress} [progress] told what the program is at
 */

/**
 * Runs a program to its end. Rejects with a {@link Failure} when it does not end well.
 * @param {string} command
 * @param {string[]} args
 * @param {RunOptions} [options]
 * @returns {Promise<string>} its standard output
 */
export function run(command, args, options = {}) {
  const { cwd = root, env, show = false, progress } = options
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let out = ''
    let all = ''
    let built = 0
    createInterface({ input: child.stdout }).on('line', (line) => {
      out += `${line}\n`
      all += `${line}\n`
      // Node's test runner closes with "ℹ pass 12" on terminals and "# pass 12" elsewhere: one form everywhere.
      if (show) process.stdout.write(`${line.replace(/^ℹ /, '# ')}\n`)
    })
    createInterface({ input: child.stderr }).on('line', (line) => {
      const cargo = CARGO_PROGRESS.exec(line)
      if (cargo) {
        if (cargo[1] === 'Compiling' || cargo[1] === 'Checking') built += 1
        if (progress) progress.doing = `${line.trim().replace(/ \(.*/, '').replace(/^[A-Z]/, (c) => c.toLowerCase())} (${built} so far)`
        return
      }
      all += `${line}\n`
      if (show) process.stderr.write(`${line}\n`)
    })
    child.on('error', (error) => {
      const missing = 'code' in error && error.code === 'ENOENT'
      reject(new Failure(missing ? `The program ${command} is not installed.` : `${command} could not be started: ${error.message}`))
    })
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(out)
      const how = signal === null ? `with exit code ${code}` : `by ${signal}`
      reject(new Failure(`${basename(command)} ${basename(args[0] ?? '')}${args.length > 1 ? ' …' : ''} ended ${how}.`, show ? '' : all))
    })
  })
}

/**
 * The output of a program, or `undefined` when it is missing or fails.
 * @param {string} command
 * @param {string[]} args
 */
export async function ask(command, args) {
  try {
    return (await run(command, args)).trim()
  } catch {
    return undefined
  }
}
