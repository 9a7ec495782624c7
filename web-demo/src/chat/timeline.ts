import type { Message } from 'hongyan'

/**
 * A window onto one conversation's log, and behind it what waits in the outbox.
 *
 * Invariants: `sent` ascends by `seq`, each seq and each sender's key once; `waiting` holds no message that is in
 * `sent`; while `newer` is true the window ends before the log's head and live messages do not extend it.
 */
export interface Timeline {
  readonly sent: readonly Message[]
  readonly waiting: readonly Message[]
  /** There is more before the window. */
  readonly older: boolean
  /** There is more after the window. */
  readonly newer: boolean
}

/** How many messages a window keeps; beyond it the far end is let go and loaded again when wanted. */
export const WINDOW_MESSAGES_MAX = 400

export const EMPTY: Timeline = { sent: [], waiting: [], older: false, newer: false }

/** Names a message from the moment it is written: the sender's key does not change when it is sent. */
export function idOf(message: Message): string {
  return `${message.from.length}:${message.from}:${message.key}`
}

/** Adds messages from any source, in any order, any number of times. */
export function merge(timeline: Timeline, incoming: readonly Message[]): Timeline {
  if (incoming.length === 0) return timeline
  const head = timeline.sent.at(-1)?.seq ?? 0
  const arrived = new Map<string, Message>()
  const pending = new Map<string, Message>()
  for (const message of incoming) {
    if (message.seq > 0) arrived.set(idOf(message), message)
    else pending.set(idOf(message), message)
  }
  const shown = [...arrived.values()].filter((message) => !timeline.newer || message.seq <= head)
  const sent = mergeSent(timeline.sent, shown, arrived)
  return { ...timeline, sent, waiting: mergeWaiting(timeline.waiting, pending, arrived, sent) }
}

function mergeSent(
  sent: readonly Message[],
  incoming: readonly Message[],
  arrived: ReadonlyMap<string, Message>,
): readonly Message[] {
  if (incoming.length === 0) return sent
  const ascending = [...incoming].sort((a, b) => a.seq - b.seq)
  const merged: Message[] = []
  let next = 0
  const push = (message: Message): void => {
    if (merged.at(-1)?.seq === message.seq) merged[merged.length - 1] = message
    else merged.push(message)
  }
  for (const message of sent) {
    for (let early = ascending[next]; early && early.seq < message.seq; early = ascending[++next]) push(early)
    // What arrived again replaces what was here, under its seq and under its key.
    if (!arrived.has(idOf(message))) push(message)
  }
  for (; next < ascending.length; next++) push(ascending[next] as Message)
  return merged
}

function mergeWaiting(
  waiting: readonly Message[],
  pending: ReadonlyMap<string, Message>,
  arrived: ReadonlyMap<string, Message>,
  sent: readonly Message[],
): readonly Message[] {
  if (waiting.length === 0 && pending.size === 0) return waiting
  const fresh = new Map(pending)
  const merged: Message[] = []
  for (const message of waiting) {
    const id = idOf(message)
    if (arrived.has(id)) continue
    merged.push(fresh.get(id) ?? message)
    fresh.delete(id)
  }
  if (fresh.size > 0) {
    const known = new Set(sent.map(idOf))
    for (const [id, message] of fresh) if (!arrived.has(id) && !known.has(id)) merged.push(message)
  }
  return merged
}

/** What is in the window and was changed is shown as it is now; what is not in it stays out. */
export function replace(timeline: Timeline, changed: readonly Message[]): Timeline {
  const latest = new Map(changed.map((message) => [idOf(message), message]))
  if (!timeline.sent.some((message) => latest.has(idOf(message)))) return timeline
  return { ...timeline, sent: timeline.sent.map((message) => latest.get(idOf(message)) ?? message) }
}

/** The window after a page of what comes before it was read. */
export function withOlder(timeline: Timeline, page: readonly Message[]): Timeline {
  const merged = merge(timeline, page.filter((message) => message.seq > 0))
  const first = merged.sent[0]
  return trimNewest({ ...merged, older: page.length > 0 && first !== undefined && first.seq > 1 })
}

/** The window after a page of what comes after it was read; `lastSeq` is the log's head. */
export function withNewer(timeline: Timeline, page: readonly Message[], lastSeq: number): Timeline {
  const merged = merge({ ...timeline, newer: false }, page)
  const last = merged.sent.at(-1)?.seq ?? 0
  return trimOldest({ ...merged, newer: page.length > 0 && last < lastSeq })
}

/** The window that ends at the log's head, from its newest page. What waits is kept. */
export function fromNewest(timeline: Timeline, page: readonly Message[]): Timeline {
  const first = page.find((message) => message.seq > 0)
  return merge({ ...EMPTY, waiting: timeline.waiting, older: first !== undefined && first.seq > 1 }, page)
}

/** Forgets one message that was never sent. */
export function without(timeline: Timeline, key: string): Timeline {
  return { ...timeline, waiting: timeline.waiting.filter((message) => message.key !== key) }
}

/** Lets go of the oldest beyond the bound, for a reader at the newest end. */
export function trimOldest(timeline: Timeline, max = WINDOW_MESSAGES_MAX): Timeline {
  if (timeline.sent.length <= max) return timeline
  return { ...timeline, sent: timeline.sent.slice(-max), older: true }
}

/** Lets go of the newest beyond the bound, for a reader at the oldest end. */
export function trimNewest(timeline: Timeline, max = WINDOW_MESSAGES_MAX): Timeline {
  if (timeline.sent.length <= max) return timeline
  return { ...timeline, sent: timeline.sent.slice(0, max), newer: true }
}

/** The seq after which something is missing inside the window, if there is such a place. The newest one counts. */
export function hole(timeline: Timeline): number | undefined {
  for (let index = timeline.sent.length - 1; index > 0; index--) {
    const before = timeline.sent[index - 1] as Message
    if (before.seq + 1 !== (timeline.sent[index] as Message).seq) return before.seq
  }
  return undefined
}
