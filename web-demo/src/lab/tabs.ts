import { shallowRef } from 'vue'
import { isNote, withTab, withoutTab, type Note, type Order, type Tab } from './roster.ts'

/** What the other tabs want of this one, and what became of them. */
export interface TabsListener {
  /** Another tab came, went by itself, or fell. */
  tab(id: string, what: 'came' | 'went' | 'fell'): void
  network(cut: boolean): void
  order(order: Order): void
}

/** Four hexadecimal digits tell tabs apart. */
function newId(): string {
  const [number = 0] = crypto.getRandomValues(new Uint16Array(1))
  return number.toString(16).padStart(4, '0')
}

/** This page's name among the tabs. */
export const TAB_ID = newId()
const BEGAN = Math.round(performance.timeOrigin)

/**
 * The tabs of one user in this browser, as they tell each other on a channel of the demo's own. A tab that falls says
 * nothing; its Web Lock, which every other one waits for, tells.
 */
export class Tabs {
  readonly all = shallowRef<readonly Tab[]>([])
  private channel: BroadcastChannel | undefined
  private readonly name: string
  private me: Tab = { id: TAB_ID, began: BEGAN, leads: false, hidden: document.hidden, frozen: false, status: 'connecting' }
  private readonly over = new AbortController()
  /** From entering to leaving; a page may be in the back/forward cache only if it holds no lock and hears nothing. */
  private stay: AbortController | undefined
  private entered = false

  constructor(
    user: string,
    private readonly listener: TabsListener,
    private readonly isCut: () => boolean,
  ) {
    this.name = `hongyan-demo.lab.${user}`
    const { signal } = this.over
    document.addEventListener('visibilitychange', () => this.now({ hidden: document.hidden }), { signal })
    window.addEventListener('pagehide', () => this.leave(), { signal })
    window.addEventListener('pageshow', ({ persisted }) => persisted && this.enter(), { signal })
    this.enter()
  }

  /** This tab is so now. */
  now(change: Partial<Omit<Tab, 'id' | 'began'>>): void {
    this.me = { ...this.me, ...change }
    this.all.value = withTab(this.all.value, this.me)
    if (this.entered) this.here(false)
  }

  order(id: string, order: Order): void {
    if (id === TAB_ID) this.listener.order(order)
    else this.say({ say: 'do', id, order })
  }

  network(cut: boolean): void {
    this.say({ say: 'network', cut })
  }

  stop(): void {
    this.leave()
    this.over.abort()
  }

  private enter(): void {
    const stay = new AbortController()
    this.stay = stay
    this.all.value = [this.me]
    if ('BroadcastChannel' in window) {
      this.channel = new BroadcastChannel(this.name)
      this.channel.onmessage = ({ data }: MessageEvent<unknown>) => {
        if (isNote(data)) this.heard(data)
      }
    }
    // Others wait for this lock as soon as they know of this tab, so it is held before.
    void this.locked(TAB_ID, () => {
      this.entered = true
      this.here(true)
      return new Promise((resolve) => stay.signal.addEventListener('abort', resolve))
    })
  }

  private leave(): void {
    this.entered = false
    this.stay?.abort()
    this.stay = undefined
    this.say({ say: 'gone', id: TAB_ID })
    this.channel?.close()
    this.channel = undefined
  }

  private here(asks: boolean): void {
    this.say({ say: 'here', tab: this.me, asks, cut: this.isCut() })
  }

  private say(note: Note): void {
    this.channel?.postMessage(note)
  }

  private heard(note: Note): void {
    switch (note.say) {
      case 'here':
        this.met(note.tab)
        if (note.asks && this.entered) this.here(false)
        // A tab that came later than the cut learns of it.
        if (note.cut && !this.isCut()) this.listener.network(true)
        break
      case 'gone':
        this.lost(note.id, 'went')
        break
      case 'do':
        if (note.id === TAB_ID) this.listener.order(note.order)
        break
      case 'network':
        this.listener.network(note.cut)
        break
    }
  }

  private met(tab: Tab): void {
    const isNew = !this.knows(tab.id)
    this.all.value = withTab(this.all.value, tab)
    if (!isNew || !this.knows(tab.id)) return
    this.listener.tab(tab.id, 'came')
    if ('locks' in navigator) void this.locked(tab.id, () => this.lost(tab.id, 'fell'))
  }

  private lost(id: string, how: 'went' | 'fell'): void {
    if (!this.knows(id) || id === TAB_ID) return
    this.all.value = withoutTab(this.all.value, id)
    this.listener.tab(id, how)
  }

  private knows(id: string): boolean {
    return this.all.value.some((tab) => tab.id === id)
  }

  /** Acts with the lock of a tab; without Web Locks at once. */
  private async locked(id: string, act: () => unknown): Promise<void> {
    if (!('locks' in navigator)) {
      await act()
      return
    }
    try {
      await navigator.locks.request(`${this.name}.${id}`, this.stay ? { signal: this.stay.signal } : {}, act)
    } catch {
      // This tab left while it waited.
    }
  }
}
