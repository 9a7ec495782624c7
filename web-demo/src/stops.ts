/** What a person can do about a session that ended for good. */
export type Remedy = 'enter' | 'reload'

/** A row for each end that has words of its own; the dictionaries have a row of the same name. */
export const STOPS = {
  superseded: 'enter',
  'logged-out': 'enter',
  kicked: 'enter',
  'token-revoked': 'enter',
  outdated: 'reload',
  'version-unsupported': 'reload',
} as const satisfies Record<string, Remedy>

export type StopCode = keyof typeof STOPS

export function isStopCode(code: string | undefined): code is StopCode {
  return code !== undefined && Object.hasOwn(STOPS, code)
}
