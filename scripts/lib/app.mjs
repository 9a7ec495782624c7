// @ts-check
/** The demo and the relay that embeds it. */

import { join } from 'node:path'

import { demo, nodeModule, pkg, relayProgram, root } from './paths.mjs'
import { run } from './run.mjs'
import { cargoWhenChanged } from './sdk.mjs'
import { whenChanged } from './stamps.mjs'
import { step } from './terminal.mjs'

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

/** Builds the relay with the demo inside: the one that is shipped is the one that runs and is tested. */
export async function buildRelay() {
  await step('Relay: the program, with the demo inside', (progress) =>
    cargoWhenChanged(
      ['build', '-p', 'hongyan-relay', '--features', 'demo', '--release'],
      relayProgram('release'),
      progress,
    ),
  )
}
