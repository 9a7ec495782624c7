import type { Chat, Message } from 'hongyan'
import { ref, shallowRef } from 'vue'
import {
  EMPTY,
  fromNewest,
  hole,
  merge,
  replace,
  trimNewest,
  trimOldest,
  withNewer,
  withOlder,
  without,
  WINDOW_MESSAGES_MAX,
  type Timeline,
} from './timeline.ts'

const PAGE = 50
/** Windows kept besides the open one, so that switching back shows at once; each shortened to a page. */
const KEPT_MAX = 8

/** The windows onto the conversations' logs: the open one in full, a few others short. */
export class Timelines {
  /** The open conversation's window. */
  readonly open = shallowRef<Timeline>(EMPTY)
  /** The first page of the open conversation is on its way. */
  readonly opening = ref(false)
  readonly loadingOlder = ref(false)
  /** A page did not come; it is asked for again when the connection is back or the person says so. */
  readonly loadFailed = ref(false)
  /** Counts the membership changes of the open conversation. */
  readonly membershipVersion = ref(0)
  /** The reader is at the newest end, so the window may let go of the oldest. The view keeps it true to the scroll. */
  following = true

  openId: string | undefined
  private readonly kept = new Map<string, Timeline>()
  private loadingNewer = false
  /** Grows with every opening; an answer to an earlier one is dropped. */
  private generation = 0
  private lastHole = ''

  constructor(
    private readonly chat: Chat,
    private readonly isOnline: () => boolean,
    private readonly tell: (error: unknown) => void,
  ) {}

  /** Shows another conversation, from what is kept of it and then from its newest page; `undefined` shows none. */
  async show(id: string | undefined): Promise<void> {
    if (id === this.openId) return
    this.keepOpen()
    this.openId = id
    this.generation++
    this.following = true
    this.loadFailed.value = false
    this.loadingOlder.value = false
    this.loadingNewer = false
    this.membershipVersion.value = 0
    const kept = id === undefined ? undefined : this.kept.get(id)
    if (id !== undefined) this.kept.delete(id)
    this.open.value = kept ?? EMPTY
    this.opening.value = id !== undefined && kept === undefined
    if (this.opening.value) await this.newest()
  }

  /** Loads the window that ends at the head. */
  async newest(): Promise<void> {
    await this.page({ limit: PAGE }, (timeline, page) => {
      // What came live while the page was on its way is not lost.
      const live = timeline.newer ? [] : timeline.sent.filter((message) => message.seq > (headOf(page) ?? 0))
      return trimOldest(merge(fromNewest(timeline, page), live))
    })
    this.opening.value = false
  }

  async older(): Promise<void> {
    const first = this.open.value.sent[0]
    if (!this.open.value.older || this.loadingOlder.value || this.loadFailed.value || first === undefined) return
    this.loadingOlder.value = true
    await this.page({ before: first.seq, limit: PAGE }, (timeline, page) => {
      if (page.some((message) => message.seq > 0)) return withOlder(timeline, page)
      // Nothing came: offline that only means that the cache ends here.
      if (!this.isOnline()) this.loadFailed.value = true
      return this.isOnline() ? { ...timeline, older: false } : timeline
    })
    this.loadingOlder.value = false
  }

  async newer(lastSeq: number): Promise<void> {
    const last = this.open.value.sent.at(-1)
    if (!this.open.value.newer || this.loadingNewer || last === undefined) return
    this.loadingNewer = true
    await this.page({ after: last.seq, limit: PAGE }, (timeline, page) => withNewer(timeline, page, lastSeq))
    this.loadingNewer = false
  }

  /** Merges live messages of any conversation into the windows that show or keep it. */
  merge(batch: readonly Message[]): void {
    if (batch.length === 0) return
    const byConversation = new Map<string, Message[]>()
    for (const message of batch) {
      const messages = byConversation.get(message.conversation)
      if (messages) messages.push(message)
      else byConversation.set(message.conversation, [message])
    }
    for (const [id, messages] of byConversation) {
      if (id === this.openId) this.mergeOpen(messages)
      else {
        const kept = this.kept.get(id)
        if (kept) this.kept.set(id, trimOldest(merge(kept, messages), PAGE))
      }
    }
  }

  /** Messages of any conversation are now as given, where a window shows or keeps them. */
  replace(changed: readonly Message[]): void {
    if (changed.length === 0) return
    this.open.value = replace(this.open.value, changed)
    for (const [id, timeline] of this.kept) this.kept.set(id, replace(timeline, changed))
  }

  private mergeOpen(messages: readonly Message[]): void {
    const merged = merge(this.open.value, messages)
    // Somebody who reads far up keeps her place: beyond twice the bound the newest are let go instead.
    if (this.following) this.open.value = trimOldest(merged)
    else this.open.value = merged.sent.length > 2 * WINDOW_MESSAGES_MAX ? trimNewest(merged) : merged
    this.fill()
  }

  /** Asks once for what is missing inside the open window. */
  private fill(): void {
    const after = hole(this.open.value)
    const name = `${this.generation} ${after}`
    if (after === undefined || this.lastHole === name) return
    this.lastHole = name
    void this.page({ after, limit: 100 }, (timeline, page) => merge(timeline, page))
  }

  /** The connection is back: what did not load is tried again. */
  online(): void {
    if (this.loadFailed.value) this.again()
  }

  again(): void {
    this.loadFailed.value = false
    if (this.openId !== undefined && this.open.value.sent.length === 0) void this.newest()
    else void this.older()
  }

  /** Nothing that is shown or kept of a conversation, or of any, can be relied on. */
  reload(of?: string): void {
    if (of === undefined) this.kept.clear()
    else this.kept.delete(of)
    if (this.openId === undefined || (of !== undefined && of !== this.openId)) return
    this.generation++
    this.open.value = { ...EMPTY, waiting: this.open.value.waiting }
    this.opening.value = true
    void this.newest()
  }

  discard(message: Message): void {
    if (message.conversation === this.openId) this.open.value = without(this.open.value, message.key)
    const kept = this.kept.get(message.conversation)
    if (kept) this.kept.set(message.conversation, without(kept, message.key))
  }

  isFailed(conversation: string, key: string): boolean {
    const timeline = conversation === this.openId ? this.open.value : this.kept.get(conversation)
    return timeline?.waiting.some((message) => message.key === key && message.status === 'failed') ?? false
  }

  membersChanged(conversation: string): void {
    if (conversation === this.openId) this.membershipVersion.value++
  }

  private keepOpen(): void {
    if (this.openId === undefined || this.open.value.newer || this.opening.value) return
    this.kept.set(this.openId, trimOldest(this.open.value, PAGE))
    const oldest = this.kept.keys().next()
    if (this.kept.size > KEPT_MAX && !oldest.done) this.kept.delete(oldest.value)
  }

  private async page(
    range: { before?: number; after?: number; limit: number },
    apply: (timeline: Timeline, page: readonly Message[]) => Timeline,
  ): Promise<void> {
    const id = this.openId
    if (id === undefined) return
    const generation = this.generation
    try {
      const page = await this.chat.history(id, range)
      if (generation === this.generation) this.open.value = apply(this.open.value, page)
    } catch (error) {
      if (generation !== this.generation) return
      this.loadFailed.value = true
      if (this.isOnline()) this.tell(error)
    }
  }
}

function headOf(page: readonly Message[]): number | undefined {
  return page.findLast((message) => message.seq > 0)?.seq
}
