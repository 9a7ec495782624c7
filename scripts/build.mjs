// @ts-check
/**
 * `npm run build [-- sdk|demo|relay …]`: the npm package into sdk-wasm/pkg/, the demo into web-demo/dist/, the
 * release relay into target/release/. A step whose inputs did not change is skipped.
 */

import { buildDemo, buildRelay } from './lib/app.mjs'
import { exclusively } from './lib/lock.mjs'
import { buildSdk } from './lib/sdk.mjs'
import { Failure, program } from './lib/terminal.mjs'
import { setUp } from './setup.mjs'

/** In the order of the arrows: the demo needs the package, the relay embeds the demo. */
const PARTS = ['sdk', 'demo', 'relay']

await program(async () => {
  const asked = process.argv.slice(2)
  const unknown = asked.find((part) => !PARTS.includes(part))
  if (unknown !== undefined) throw new Failure(`There is no part "${unknown}"; the parts are ${PARTS.join(', ')}.`)

  await exclusively(async () => {
    await setUp({ browser: false })
    const last = asked.length === 0 ? PARTS.length - 1 : Math.max(...asked.map((part) => PARTS.indexOf(part)))
    await buildSdk({ sizes: true })
    if (last >= PARTS.indexOf('demo')) await buildDemo()
    if (last >= PARTS.indexOf('relay')) await buildRelay()
  })
})
