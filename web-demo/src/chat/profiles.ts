import type { Chat, Conversation, Profile } from 'hongyan'
import { inject, provide, shallowRef, type InjectionKey, type ShallowRef } from 'vue'

/** Names are wanted in bursts: a list that loads, a conversation that opens. */
const SETTLE_MS = 30
/** As many as one call may ask for. */
const ASKED_AT_ONCE_MAX = 1_000
/** More than are on any screen; beyond, those that were learned first are forgotten. */
export const KNOWN_MAX = 2_000

/** The names of who is on screen; who has none, or none that may be seen, is called by her id. */
export class Profiles {
  private readonly known: ShallowRef<ReadonlyMap<string, Profile>> = shallowRef(new Map())
  /** Asked for since the connection was made: who only shares a group tells of a new name when she is asked. */
  private readonly asked = new Set<string>()
  /** Counts the times that everything was asked for anew: an answer to what was asked before tells of another time. */
  private life = 0
  private wanted = new Set<string>()
  private timer: number | undefined
  private readonly off: () => void

  constructor(
    private readonly chat: Chat,
    private readonly tell: (error: unknown) => void,
  ) {
    this.off = chat.on('profile', (profile) => this.learn([profile]))
  }

  /** A user's name, or her id; as soon as a newer one is known what asks for it is rendered anew. */
  nameOf(user: string): string {
    return this.ownNameOf(user) ?? user
  }

  /** The same, if she has given herself one. */
  ownNameOf(user: string): string | undefined {
    const profile = this.known.value.get(user)
    if (!this.asked.has(user)) this.want(user)
    return profile?.name
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

  /**
   * There is another connection, or something was not told: who is on screen is asked for once more. What is known is shown
   * until then, as of no version, since the relay may be one of before.
   */
  again(): void {
    this.life += 1
    this.asked.clear()
    this.known.value = new Map([...this.known.value].map(([user, profile]) => [user, { ...profile, version: 0 }]))
  }

  /** Who may see whom has changed: who seemed to have no profile is asked for once more. */
  mayBeSeen(): void {
    for (const user of this.asked) {
      if ((this.known.value.get(user)?.version ?? 0) === 0) this.asked.delete(user)
    }
    this.known.value = new Map(this.known.value)
  }

  stop(): void {
    window.clearTimeout(this.timer)
    this.off()
  }

  private want(user: string): void {
    this.asked.add(user)
    const [first] = this.asked
    if (this.asked.size > KNOWN_MAX && first !== undefined) this.asked.delete(first)
    this.wanted.add(user)
    this.timer ??= window.setTimeout(() => void this.ask(), SETTLE_MS)
  }

  private async ask(): Promise<void> {
    this.timer = undefined
    const life = this.life
    const users = [...this.wanted]
    this.wanted = new Set()
    for (let from = 0; from < users.length; from += ASKED_AT_ONCE_MAX) {
      try {
        const profiles = await this.chat.profiles.get(users.slice(from, from + ASKED_AT_ONCE_MAX))
        if (life === this.life) this.learn(profiles)
      } catch (error) {
        this.tell(error)
      }
    }
  }

  private learn(profiles: readonly Profile[]): void {
    const isNewer = (profile: Profile): boolean => {
      const { version, name } = this.known.value.get(profile.user) ?? { version: 0, name: undefined }
      return profile.version > version || (version === 0 && profile.name !== name)
    }
    const newer = profiles.filter(isNewer)
    if (newer.length === 0) return
    const all = new Map([...this.known.value, ...newer.map((profile) => [profile.user, profile] as const)])
    this.known.value = new Map([...all].slice(-KNOWN_MAX))
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
