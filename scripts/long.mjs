// @ts-check
/** `npm run test:long`: all set-up, then the tests that must wait for what a browser does only after minutes. */

import { readdirSync } from 'node:fs'
import { join } from 'node:path'

import { buildDemo, buildRelay } from './lib/app.mjs'
import { exclusively } from './lib/lock.mjs'
import { root } from './lib/paths.mjs'
import { run } from './lib/run.mjs'
import { buildSdk } from './lib/sdk.mjs'
import { program, step } from './lib/terminal.mjs'
import { setUp } from './setup.mjs'

const FOLDER = 'tests/long'

await program(async () => {
  await exclusively(async () => {
    await setUp({ browser: true })
    await buildSdk({ sizes: false })
    await buildDemo()
    await buildRelay()
  })
  const files = readdirSync(join(root, FOLDER)).filter((name) => name.endsWith('.test.mjs')).map((name) => join(FOLDER, name))
  await step('Tests that take minutes', (progress) =>
    run(process.execPath, ['--test', '--test-reporter=spec', ...files], { show: true, progress }),
  )
})
