// @ts-check
/** Steps are skipped when what they read has not changed: a hash of their inputs is kept in the target folder. */

import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'

import { root, work } from './paths.mjs'

/** Folders that are made, never read. */
const MADE = new Set(['node_modules', 'dist', 'pkg', 'target', '.git'])

/**
 * Every file of a file or folder, in a fixed order.
 * @param {string} path
 * @returns {string[]}
 */
export function filesOf(path) {
  if (!existsSync(path)) return []
  if (!statSync(path).isDirectory()) return [path]
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => !MADE.has(entry.name))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => filesOf(join(path, entry.name)))
}

/**
 * @param {string[]} paths files and folders
 * @param {string[]} extra whatever else decides the result, such as versions and flags
 */
function digest(paths, extra) {
  const hash = createHash('sha256')
  for (const text of extra) hash.update(`${text}\0`)
  for (const file of paths.flatMap(filesOf)) {
    hash.update(`${relative(root, file)}\0`)
    hash.update(createHash('sha256').update(readFileSync(file)).digest())
  }
  return hash.digest('hex')
}

/**
 * Does `make` unless the same inputs have already made what still lies there.
 * @param {object} task
 * @param {string} task.name
 * @param {string[]} task.inputs files and folders that it reads
 * @param {string[]} [task.extra] whatever else decides the result
 * @param {string[]} task.outputs files and folders that it writes
 * @param {() => Promise<void>} task.make
 * @returns {Promise<'unchanged' | 'made'>}
 */
export async function whenChanged({ name, inputs, extra = [], outputs, make }) {
  const stamp = join(work, 'stamps', name)
  const now = digest(inputs, extra)
  // The outputs' own hash notices a file that was removed or edited by hand.
  const seen = existsSync(stamp) ? readFileSync(stamp, 'utf8') : ''
  if (seen === `${now} ${outputDigest(outputs)}`) return 'unchanged'
  rmSync(stamp, { force: true })
  await make()
  mkdirSync(join(work, 'stamps'), { recursive: true })
  writeFileSync(stamp, `${now} ${outputDigest(outputs)}`)
  return 'made'
}

/** @param {string[]} outputs */
function outputDigest(outputs) {
  return outputs.every((path) => existsSync(path)) ? digest(outputs, []) : 'missing'
}
