import type { Chat, Presence } from 'hongyan'
import { shallowRef, type ShallowRef } from 'vue'

/** Users that one place of the page shows at most; a relay bounds what a connection may watch. */
export const WATCHED_PER_PLACE_MAX = 200
/** Places change in bursts: a list that loads, a conversation that opens. */
const SETTLE_MS = 50

/** Follows how those are who are on screen now: one watch at a time, and none of who is not shown any more. */
export class Presences {
  /** By user; only who is shown. */
  readonly known: ShallowRef<ReadonlyMap<string, Presence>> = shallowRef(new Map())
  private readonly places = new Map<string, readonly string[]>()
  private watched = ''
  private watching: Promise<(() => void) | undefined> = Promise.resolve(undefined)
  private timer: number | undefined
  private stopped = false
  private readonly off: () => void

  constructor(
    private readonly chat: Chat,
    private readonly tell: (error: unknown) => void,
  ) {
    this.off = chat.on('presence', (presence) => this.learn([presence]))
  }

  /** This place of the page shows these users from now on; none takes the place away. */
  show(place: string, users: readonly string[]): void {
    if (users.length === 0) this.places.delete(place)
    else this.places.set(place, users.slice(0, WATCHED_PER_PLACE_MAX))
    this.timer ??= window.setTimeout(() => this.follow(), SETTLE_MS)
  }

  stop(): void {
    this.stopped = true
    window.clearTimeout(this.timer)
    this.off()
    void this.watching.then((end) => end?.())
  }

  private follow(): void {
    this.timer = undefined
    const users = this.shown()
    const names = JSON.stringify(users)
    if (this.stopped || names === this.watched) return
    this.watched = names
    const before = this.watching
    // The new watch begins before the old one ends, so nobody who stays is let go of in between.
    this.watching = this.watch(users).then(async (end) => {
      ;(await before)?.()
      if (this.stopped) end?.()
      return end
    })
  }

  private async watch(users: readonly string[]): Promise<(() => void) | undefined> {
    const keep = new Set(users)
    this.known.value = new Map([...this.known.value].filter(([user]) => keep.has(user)))
    if (users.length === 0) return undefined
    try {
      const watch = await this.chat.presence.watch(users)
      this.learn(watch.current)
      return () => watch.stop()
    } catch (error) {
      // The next change of what is shown tries again.
      this.watched = ''
      this.tell(error)
      return undefined
    }
  }

  private learn(presences: readonly Presence[]): void {
    const shown = new Set(this.shown())
    const known = new Map(this.known.value)
    for (const presence of presences) if (shown.has(presence.user)) known.set(presence.user, presence)
    this.known.value = known
  }

  private shown(): string[] {
    return [...new Set([...this.places.values()].flat())].filter((user) => user !== this.chat.user).sort()
  }
}
