// @ts-check
/**
 * `npm run test:kill [-- --rounds N --writers N]`: the release relay on a real disk, under load from real client cores
 * over real WebSockets, killed with SIGKILL at random moments. Every acknowledged send must be there exactly once, in
 * order, at everybody. Prints rounds, sends, what was lost, doubled and out of order, and the longest start.
 */

import { parseArgs } from 'node:util'

import { exclusively } from './lib/lock.mjs'
import { relayProgram } from './lib/paths.mjs'
import { run } from './lib/run.mjs'
import { Failure, program, step } from './lib/terminal.mjs'
import { setUp } from './setup.mjs'

const ROUNDS = '300'
const WRITERS = '6'

await program(async () => {
  const { rounds, writers } = options()
  await exclusively(async () => {
    await setUp({ browser: false })
    await step('Kills: the relay', (progress) => run('cargo', ['build', '--release', '-p', 'hongyan-relay'], { progress }))
    await step('Kills: the program', (progress) => run('cargo', ['test', '-p', 'hongyan-tests', '--test', 'faults', '--no-run'], { progress }))
  })
  await step(`Kills: ${rounds} rounds with ${writers} writers`, () =>
    run('cargo', ['test', '--quiet', '-p', 'hongyan-tests', '--test', 'faults', '--', 'kills::', '--nocapture'], {
      env: { HONGYAN_RELAY: relayProgram('release'), HONGYAN_KILL_ROUNDS: rounds, HONGYAN_KILL_WRITERS: writers },
      show: true,
    }),
  )
})

function options() {
  let given
  try {
    given = parseArgs({ options: { rounds: { type: 'string' }, writers: { type: 'string' } } }).values
  } catch (error) {
    throw new Failure(`${error instanceof Error ? error.message : error} The options are --rounds N and --writers N.`)
  }
  const { rounds = ROUNDS, writers = WRITERS } = given
  for (const number of [rounds, writers]) {
    if (!/^[1-9]\d{0,6}$/.test(number)) throw new Failure(`${number} is no number of rounds or writers.`)
  }
  return { rounds, writers }
}
