// @ts-check
/** One build at a time in one checkout: `npm start` beside `npm test` waits instead of writing the same files. */

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { work } from './paths.mjs'
import { say } from './terminal.mjs'

const LOOK_AGAIN_MS = 500

/**
 * Does `work` while no other process of this checkout does.
 * @template T
 * @param {() => Promise<T>} job
 * @returns {Promise<T>}
 */
export async function exclusively(job) {
  const file = join(work, 'lock')
  mkdirSync(work, { recursive: true })
  let told = false
  while (!take(file)) {
    const holder = holderOf(file)
    if (holder !== undefined && !told) {
      say(`Another build of this checkout is running (process ${holder}); waiting for it.`)
      told = true
    }
    await sleep(LOOK_AGAIN_MS)
  }
  const release = () => rmSync(file, { force: true })
  process.once('exit', release)
  try {
    return await job()
  } finally {
    process.off('exit', release)
    release()
  }
}

/** @param {string} file */
function take(file) {
  try {
    writeFileSync(file, String(process.pid), { flag: 'wx' })
    return true
  } catch {
    return false
  }
}

/**
 * The process that holds the lock; a lock whose process has ended is removed.
 * @param {string} file
 */
function holderOf(file) {
  let holder = NaN
  try {
    holder = Number(readFileSync(file, 'utf8'))
    process.kill(holder, 0)
    return holder
  } catch (error) {
    // EPERM: it lives, under another user.
    if (error instanceof Error && 'code' in error && error.code === 'EPERM') return holder
    if (Number.isInteger(holder)) rmSync(file, { force: true })
    return undefined
  }
}
