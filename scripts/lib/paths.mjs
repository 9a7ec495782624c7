// @ts-check
/** Where things are. Every other script takes its paths from here. */

import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../..', import.meta.url))

/** Cargo's own rule: the environment may move the target folder. */
export const target = resolve(root, process.env.CARGO_TARGET_DIR ?? 'target')

/** What the scripts keep between runs: stamps, intermediate files, the lock. */
export const work = join(target, 'hongyan')

export const sdk = join(root, 'sdk-wasm')

/** The npm package as it is packed and published. */
export const pkg = join(sdk, 'pkg')

export const demo = join(root, 'web-demo')

/**
 * The relay's program.
 * @param {'debug' | 'release'} profile
 */
export function relayProgram(profile) {
  return join(target, profile, process.platform === 'win32' ? 'hongyan-relay.exe' : 'hongyan-relay')
}

/** The program of the native benchmarks (`tests/bench/`). */
export const figuresProgram = join(target, 'release', process.platform === 'win32' ? 'figures.exe' : 'figures')

/** What floods do to others (`tests/src/bin/floods.rs`). */
export const floodsProgram = join(target, 'release', process.platform === 'win32' ? 'floods.exe' : 'floods')

/**
 * A command that npm installed, as arguments for `node`: no shell and no `.cmd` in between.
 * @param {string} path inside `node_modules`
 */
export function nodeModule(path) {
  return join(root, 'node_modules', path)
}
