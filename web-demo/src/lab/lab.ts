import type { Chat } from 'hongyan'
import { ref, shallowRef, type Ref, type ShallowRef } from 'vue'
import { lines, logText, withEntry, type LogEntry, type LogKind } from './log.ts'
import { install } from './network.ts'
import type { Order, Tab } from './roster.ts'
import { TAB_ID, Tabs } from './tabs.ts'

/** The page's network; this module must run before anything connects. */
const network = install(window)

/** How long a tab that is told to freeze does nothing else. */
export const FREEZE_MS = 5_000
/** What a button did is on screen before the page stops. */
const PAINT_MS = 100
/** A page that may close itself is gone by then. */
const CLOSE_MS = 500

/** What a visitor can do to the chat, and what is seen of it. */
export interface Lab {
  readonly log: ShallowRef<readonly LogEntry[]>
  readonly tabs: ShallowRef<readonly Tab[]>
  readonly isCut: Ref<boolean>
  /** Cuts the network of all tabs of this user here, or heals it. */
  setCut(cut: boolean): void
  /** The address of another tab of this user, with the lab open. */
  readonly address: string
  /** The leading tab, if one is known, does this to itself. */
  toLeader(order: Order): void
  text(): string
  clear(): void
  stop(): void
}

export function createLab(chat: Chat): Lab {
  const log = shallowRef<readonly LogEntry[]>([])
  const isCut = ref(network.isCut)
  let state = ''
  let leads: boolean | undefined

  function note(kind: LogKind, text: string): void {
    log.value = withEntry(log.value, Date.now(), kind, text)
  }

  function cut(is: boolean): void {
    if (network.isCut === is) return
    if (is) network.cut()
    else network.heal()
    isCut.value = is
    note('network', is ? 'cut' : 'healed')
  }

  const address = new URL(window.location.href)
  address.searchParams.set('user', chat.user)
  address.searchParams.set('lab', '')
  address.hash = ''

  const orders: Record<Order, () => void> = {
    close: () => {
      window.close()
      // A page that no script opened may only go elsewhere.
      window.setTimeout(() => window.location.replace('about:blank'), CLOSE_MS)
    },
    freeze: () => {
      tabs.now({ frozen: true })
      const end = performance.now() + FREEZE_MS
      while (performance.now() < end);
      tabs.now({ frozen: false })
      note('tab', `${TAB_ID} was frozen for ${FREEZE_MS} ms`)
    },
  }

  const tabs = new Tabs(
    chat.user,
    {
      tab: (id, what) => note('tab', `${id} ${what}`),
      network: cut,
      order: (order) => {
        note('tab', `${TAB_ID} is told to ${order}`)
        window.setTimeout(orders[order], PAINT_MS)
      },
    },
    () => network.isCut,
  )

  function stateChanged(next: Chat['state']): void {
    const line = lines.state(next)
    if (line === state && next.leader === leads) return
    if (line !== state) note('state', line)
    if (next.leader !== leads && (next.leader || leads)) note('leader', `${TAB_ID} ${next.leader ? 'leads' : 'leads no more'}`)
    state = line
    leads = next.leader
    tabs.now({ leads: next.leader && next.status !== 'stopped', status: next.status })
  }

  const off = [
    chat.on('state', stateChanged),
    chat.on('presence', (presence) => note('presence', lines.presence(presence))),
    chat.on('typing', (typing) => note('typing', lines.typing(typing))),
    chat.on('message', (message) => note('message', lines.message(message))),
    chat.on('change', (change) => note('change', lines.change(change))),
    chat.on('outbox', (message) => note('outbox', lines.outbox(message))),
    chat.on('group', (update) => note('group', lines.group(update))),
    chat.on('gap', () => note('gap', 'read anew')),
  ]
  stateChanged(chat.state)

  return {
    log,
    tabs: tabs.all,
    isCut,
    setCut: (is) => {
      cut(is)
      tabs.network(is)
    },
    address: address.href,
    toLeader: (order) => {
      const leader = tabs.all.value.find((tab) => tab.leads)
      if (leader) tabs.order(leader.id, order)
    },
    text: () => `tab ${TAB_ID} of ${chat.user}, device ${chat.device}\n${logText(log.value)}\n`,
    clear: () => (log.value = []),
    stop: () => {
      off.forEach((end) => end())
      tabs.stop()
    },
  }
}
