import type { Message } from 'hongyan'
import { idOf, type Timeline } from './timeline.ts'

/** One line of the message list: a message, and what stands above it. */
export interface Row {
  readonly id: string
  readonly message: Message
  readonly own: boolean
  /** The first of what one sender wrote in one go: it carries the name. */
  readonly first: boolean
  /** The last of it: it carries the avatar and the time. */
  readonly last: boolean
  /** A new day begins here. */
  readonly day: boolean
  /** The first message that was unread when the conversation was opened. */
  readonly fresh: boolean
}

/** Longer silence than this begins a new group. */
const GROUP_GAP_MS = 5 * 60_000

/** The rows of a window; linear in the window, which is bounded. */
export function rowsOf(timeline: Timeline, me: string, readSeq: number | undefined): readonly Row[] {
  const messages = timeline.waiting.length > 0 ? [...timeline.sent, ...timeline.waiting] : timeline.sent
  const fresh =
    readSeq === undefined ? undefined : messages.find((message) => message.seq > readSeq && message.from !== me)
  const starts = messages.map((message, index) => {
    const before = messages[index - 1]
    // Whether a day begins with the window's first message is not known while there are older ones.
    const day = before === undefined ? !timeline.older : dayOf(before.time) !== dayOf(message.time)
    const apart = before === undefined || before.from !== message.from || message.time - before.time > GROUP_GAP_MS
    return { day, first: day || apart || message === fresh }
  })
  return messages.map((message, index) => ({
    id: idOf(message),
    message,
    own: message.from === me,
    first: starts[index]?.first ?? true,
    last: starts[index + 1]?.first ?? true,
    day: starts[index]?.day ?? false,
    fresh: message === fresh,
  }))
}

/** The calendar day in the reader's own time zone, as one number. */
function dayOf(time: number): number {
  const date = new Date(time)
  return (date.getFullYear() * 12 + date.getMonth()) * 31 + date.getDate()
}
