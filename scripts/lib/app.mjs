// @ts-check
/** The demo and the relay that embeds it. */

import { join } from 'node:path'

import { demo, nodeModule, pkg, relayProgram, root } from './paths.mjs'
import { run } from './run.mjs'
import { cargoWhenChanged } from './sdk.mjs'
import { whenChanged } from './stamps.mjs'
import { step } from './terminal.mjs'

/**
 * The relay that `npm start` and the browser tests run: with debug assertions, and made of the same compiled crates as
 * the Rust tests.
 * @type {'debug'}
 */
export const RUN_PROFILE = 'debug'

/** Builds `web-demo/dist/`. */
export async function buildDemo() {
  await step('Demo: bundle by Vite', () =>
    whenChanged({
      name: 'demo',
      inputs: [demo, pkg, join(root, 'package-lock.json')],
      outputs: [join(demo, 'dist')],
      async make() {
        await run(process.execPath, [nodeModule('vite/bin/vite.js'), 'build', '--logLevel', 'warn'], { cwd: demo })
      },
    }),
  )
}

/**
 * Builds the relay with the demo inside.
 * @param {'debug' | 'release'} profile
 */
export async function buildRelay(profile) {
  await step(`Relay: ${profile} program with the demo`, (progress) =>
    cargoWhenChanged(
      ['build', '-p', 'hongyan-relay', '--features', 'demo', ...(profile === 'release' ? ['--release'] : [])],
      relayProgram(profile),
      progress,
    ),
  )
}
