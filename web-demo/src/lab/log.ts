import type { Change, GroupUpdate, Message, Presence, State, Typing } from 'hongyan'

/** What the log tells of: the SDK's events by their own names, and what happens to tabs and network. */
export type LogKind = 'state' | 'leader' | 'presence' | 'typing' | 'message' | 'change' | 'outbox' | 'group' | 'gap' | 'tab' | 'network'

/** One line of the log. Its text is made of the SDK's own names, and never has what somebody wrote. */
export interface LogEntry {
  readonly id: number
  /** Milliseconds since 1970 by this device's clock. */
  readonly at: number
  readonly kind: LogKind
  readonly text: string
}

/** Lines that are kept; the oldest go first. */
export const LOG_ENTRIES_MAX = 500

/** The log with one more line, newest last. */
export function withEntry(log: readonly LogEntry[], at: number, kind: LogKind, text: string): readonly LogEntry[] {
  const entry = { id: (log.at(-1)?.id ?? 0) + 1, at, kind, text }
  return [...log.slice(-(LOG_ENTRIES_MAX - 1)), entry]
}

/** The time of day with milliseconds, in the reader's time zone. */
export function stamp(at: number): string {
  const date = new Date(at)
  const part = (value: number, digits: number): string => String(value).padStart(digits, '0')
  const clock = [date.getHours(), date.getMinutes(), date.getSeconds()].map((value) => part(value, 2)).join(':')
  return `${clock}.${part(date.getMilliseconds(), 3)}`
}

/** The whole log as text, for a report. */
export function logText(log: readonly LogEntry[]): string {
  return log.map(({ at, kind, text }) => `${stamp(at)}  ${kind.padEnd(8)}  ${text}`).join('\n')
}

/** Each of these says one event in one line. */
export const lines = {
  state(state: State): string {
    const words: string[] = [state.status]
    if (state.reason) words.push(`(${state.reason.code}, ${state.reason.class})`)
    if (state.status === 'online') words.push(state.caughtUp ? 'caught up' : 'catching up')
    if (state.retryAt !== undefined) words.push(`next try ${stamp(state.retryAt)}`)
    if (state.invisible) words.push('invisible')
    words.push(`storage ${state.storage}`)
    return words.join(' ')
  },
  presence({ user, devices, ...seen }: Presence): string {
    // A single device is as its user is.
    const [only, second] = devices
    const each = only && !second ? [only.kind] : devices.map((device) => `${device.kind} ${condition(device)}`)
    return `${user} ${condition(seen)}${each.length > 0 ? ` [${each.join('; ')}]` : ''}`
  },
  typing({ user, typing, conversation }: Typing): string {
    return `${user} ${typing ? 'writes' : 'ceased'} in ${conversation}`
  },
  message({ from, seq, conversation }: Message): string {
    return `#${seq} from ${from} in ${conversation}`
  },
  change({ kind, by, reaction, message }: Change): string {
    return `${by} ${kind} #${message.seq} in ${message.conversation}${reaction === undefined ? '' : ` (${reaction})`}`
  },
  outbox({ status, seq, key, error }: Message): string {
    const end = status === 'sent' ? ` as #${seq}` : error ? ` (${error.code})` : ''
    return `${key.slice(0, 8)} ${status}${end}`
  },
  group({ kind, by, users, conversation }: GroupUpdate): string {
    return `${by} ${kind} ${users.join(', ')} in ${conversation}`
  },
} as const

function condition({ status, cause, since, until }: Omit<Presence, 'user' | 'devices'>): string {
  const words: string[] = [status]
  if (cause !== undefined) words.push(`(${cause})`)
  if (since !== undefined) words.push(`since ${stamp(since)}`)
  if (until !== undefined) words.push(`until ${stamp(until)}`)
  return words.join(' ')
}
