import type { DeviceKind, PresenceCause, PresenceStatus } from 'hongyan'

/** What the words are made of: a presence of a user, or of one device. */
export interface Seen {
  readonly status: PresenceStatus
  readonly cause?: PresenceCause
  readonly since?: number
  /** When it changes by itself at the latest. */
  readonly until?: number
}

/** The part of a dictionary that says how somebody is. */
export interface PresenceWords {
  readonly online: string
  readonly away: string
  readonly awaySince: (when: string) => string
  readonly leaving: string
  readonly offline: string
  readonly lastSeen: (when: string) => string
  readonly unknown: string
  readonly unknownYet: string
  readonly because: (words: string, cause: string) => string
  readonly causes: Readonly<Record<PresenceCause, string>>
  readonly kinds: Readonly<Record<DeviceKind, string>>
}

/** How a status is said: which word, which word with a time, and which cause goes without saying. */
interface Row {
  readonly plain: (words: PresenceWords) => string
  readonly since?: (words: PresenceWords, when: string) => string
  readonly silent?: readonly PresenceCause[]
}

/** One row a status; the style sheet has a dot for each by the same name. */
const STATUSES: Readonly<Record<PresenceStatus, Row>> = {
  online: { plain: (words) => words.online },
  away: { plain: (words) => words.away, since: (words, when) => words.awaySince(when), silent: ['background'] },
  leaving: { plain: (words) => words.leaving, silent: ['closed'] },
  offline: { plain: (words) => words.offline, since: (words, when) => words.lastSeen(when) },
  unknown: { plain: (words) => words.unknown },
}

/** How somebody is, in words. `moment` says a time. */
export function presenceText(words: PresenceWords, seen: Seen, moment: (time: number) => string): string {
  // After a restart the relay waits for those who come back, and says until when.
  if (seen.status === 'unknown' && seen.until !== undefined) return words.unknownYet
  const row = STATUSES[seen.status]
  const text = row.since && seen.since !== undefined ? row.since(words, moment(seen.since)) : row.plain(words)
  const { cause } = seen
  return cause === undefined || row.silent?.includes(cause) ? text : words.because(text, words.causes[cause])
}

/** A device that nothing is known of is no device that somebody uses now. */
export function isHere(status: PresenceStatus | undefined): boolean {
  return status === 'online' || status === 'away'
}
