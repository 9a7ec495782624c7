import type { State } from 'hongyan'

/** A tab of the demo, as it tells of itself. */
export interface Tab {
  /** Random, for this page's life. */
  readonly id: string
  /** When its page began; milliseconds since 1970. */
  readonly began: number
  readonly leads: boolean
  readonly hidden: boolean
  /** It does nothing for a while: its last word before. */
  readonly frozen: boolean
  readonly status: State['status']
}

/** What a tab can be told to do to itself. */
export type Order = 'close' | 'freeze'

/** What the tabs of one user say to each other. */
export type Note =
  /** Here I am, or am so now; `asks` for an answer of each other one, `cut` tells that the network is cut. */
  | { readonly say: 'here'; readonly tab: Tab; readonly asks: boolean; readonly cut: boolean }
  | { readonly say: 'gone'; readonly id: string }
  | { readonly say: 'do'; readonly id: string; readonly order: Order }
  | { readonly say: 'network'; readonly cut: boolean }

/** Tabs in the list; nobody opens more to try something. */
export const TABS_MAX = 50

/** The list with this tab as it is now, the oldest first. */
export function withTab(tabs: readonly Tab[], tab: Tab): readonly Tab[] {
  const others = tabs.filter((other) => other.id !== tab.id)
  if (others.length >= TABS_MAX) return tabs
  return [...others, tab].sort((a, b) => a.began - b.began || (a.id < b.id ? -1 : 1))
}

export function withoutTab(tabs: readonly Tab[], id: string): readonly Tab[] {
  return tabs.filter((tab) => tab.id !== id)
}

/** Another version of this page may say what this one does not know. */
export function isNote(note: unknown): note is Note {
  if (!isRecord(note)) return false
  if (note['say'] === 'here') return isTab(note['tab']) && typeof note['cut'] === 'boolean'
  if (note['say'] === 'do') return typeof note['id'] === 'string' && (note['order'] === 'close' || note['order'] === 'freeze')
  if (note['say'] === 'network') return typeof note['cut'] === 'boolean'
  return note['say'] === 'gone' && typeof note['id'] === 'string'
}

function isTab(data: unknown): data is Tab {
  return isRecord(data) && typeof data['id'] === 'string' && typeof data['began'] === 'number' && typeof data['status'] === 'string'
}

function isRecord(data: unknown): data is Partial<Record<string, unknown>> {
  return typeof data === 'object' && data !== null
}
