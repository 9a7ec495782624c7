import type { Chat, Conversation, Profile } from 'hongyan'
import { inject, provide, shallowRef, type InjectionKey, type ShallowRef } from 'vue'

/** Names are wanted in bursts: a list that loads, a conversation that opens. */
const SETTLE_MS = 30
/** As many as one call may ask for. */
const ASKED_AT_ONCE_MAX = 1_000

/** The names of who is on screen; who has none, or none that may be seen, is called by her id. */
export class Profiles {
  private readonly known: ShallowRef<ReadonlyMap<string, Profile>> = shallowRef(new Map())
  /** Asked for since the connection was made: who only shares a group tells of a new name when she is asked. */
  private readonly asked = new Set<string>()
  private wanted = new Set<string>()
  private timer: number | undefined
  private readonly off: () => void

  constructor(
    private readonly chat: Chat,
    private readonly tell: (error: unknown) => void,
  ) {
    this.off = chat.on('profile', (profile) => this.learn([profile]))
  }

  /** A user's name, and as soon as a newer one is known what asks for it is rendered anew. */
  nameOf(user: string): string {
    const profile = this.known.value.get(user)
    if (!this.asked.has(user)) this.want(user)
    return profile?.name ?? user
  }

  /** The same conversation, called as its peer calls herself. */
  titled(conversation: Conversation): Conversation {
    if (conversation.peer === undefined) return conversation
    const title = this.nameOf(conversation.peer)
    return title === conversation.title ? conversation : { ...conversation, title }
  }

  async setName(name: string): Promise<void> {
    this.learn([await this.chat.profiles.set({ name })])
  }

  /** There is another connection, or something was not told: whoever is known is asked for once more. */
  again(): void {
    for (const user of this.asked) this.want(user)
  }

  stop(): void {
    window.clearTimeout(this.timer)
    this.off()
  }

  private want(user: string): void {
    this.asked.add(user)
    this.wanted.add(user)
    this.timer ??= window.setTimeout(() => void this.ask(), SETTLE_MS)
  }

  private async ask(): Promise<void> {
    this.timer = undefined
    const users = [...this.wanted]
    this.wanted = new Set()
    for (let from = 0; from < users.length; from += ASKED_AT_ONCE_MAX) {
      try {
        this.learn(await this.chat.profiles.get(users.slice(from, from + ASKED_AT_ONCE_MAX)))
      } catch (error) {
        this.tell(error)
      }
    }
  }

  private learn(profiles: readonly Profile[]): void {
    const newer = profiles.filter(({ user, version }) => version > (this.known.value.get(user)?.version ?? 0))
    if (newer.length === 0) return
    this.known.value = new Map([...this.known.value, ...newer.map((profile) => [profile.user, profile] as const)])
  }
}

const PROFILES: InjectionKey<Profiles> = Symbol('profiles')

/** Gives the names to all components inside. */
export function provideNames(profiles: Profiles): void {
  provide(PROFILES, profiles)
}

/** A user's name, for a component inside of what gives them. */
export function useNames(): (user: string) => string {
  const profiles = inject(PROFILES)
  return (user) => profiles?.nameOf(user) ?? user
}
