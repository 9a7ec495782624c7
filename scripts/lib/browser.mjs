// @ts-check
/** The browser that tests drive: one that is installed, never one that a package downloads. */

import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome']

const APPLICATIONS = [
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]

/**
 * The program of an installed Chromium or Chrome. `HONGYAN_CHROMIUM` names another one.
 * @returns {string | undefined}
 */
export function browserProgram() {
  const named = process.env.HONGYAN_CHROMIUM
  if (named) return existsSync(named) ? named : undefined
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean)
  const candidates = [...NAMES.flatMap((name) => folders.map((folder) => join(folder, name))), ...APPLICATIONS]
  return candidates.find((path) => existsSync(path))
}
