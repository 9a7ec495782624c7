// @ts-check
/** One Chromium per file; people and their devices are contexts of it. What goes wrong in a page fails the test. */

import { after } from 'node:test'

import { chromium } from 'playwright-core'

import { browserProgram } from '../../../scripts/lib/browser.mjs'

/** What every Chromium of these tests is started with. */
export const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** @type {Promise<import('playwright-core').Browser> | undefined} */
let running

/** The file's browser; it ends with the file. */
function browser() {
  if (running === undefined) {
    const executablePath = browserProgram()
    if (executablePath === undefined) {
      throw new Error('No Chromium was found: install Chromium or Chrome, or name its program in HONGYAN_CHROMIUM.')
    }
    running = chromium.launch({ executablePath, args: FLAGS })
  }
  return running
}

after(async () => {
  await (await running)?.close()
})

/**
 * A browser profile of its own, empty.
 * @param {import('./scene.mjs').Scene} scene
 * @param {import('playwright-core').BrowserContextOptions} [options]
 */
export async function newProfile(scene, options = {}) {
  const context = await (await browser()).newContext({ locale: 'en-US', ...options })
  context.setDefaultTimeout(20_000)
  scene.onEnd(() => context.close())
  // The browser's own console line names the directive; this one also names what was blocked.
  await context.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => {
      console.error(`CSP: ${event.effectiveDirective} blocked ${event.blockedURI} at ${event.sourceFile}:${event.lineNumber}`)
    })
  })
  return context
}

/**
 * A page whose complaints fail the test.
 * @param {import('./scene.mjs').Scene} scene
 * @param {import('playwright-core').BrowserContext} context
 * @param {string} name for reports
 */
export async function newPage(scene, context, name) {
  const page = await context.newPage()
  page.on('console', (message) => {
    if (message.type() === 'error') scene.problem(`${name}'s console: ${message.text()} (${message.location().url})`)
  })
  page.on('pageerror', (error) => scene.problem(`${name}'s page: ${error.stack ?? error.message}`))
  page.on('crash', () => scene.problem(`${name}'s page crashed`))
  return page
}
