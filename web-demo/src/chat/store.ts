import { ChatError, type Chat, type Conversation, type GroupUpdate, type Message } from 'hongyan'
import { computed, ref, shallowRef, watch, type ComputedRef, type Ref, type ShallowRef } from 'vue'
import { createLab, type Lab } from '../lab/lab.ts'
import { unreadOf, upsert } from './list.ts'
import { Presences } from './presences.ts'
import { Profiles } from './profiles.ts'
import { Timelines } from './timelines.ts'
import { withTyping, type Typings } from './typings.ts'

/** What happened lately in words for a toast; the view says it in the chosen language. */
export type Notice =
  | { readonly id: number; readonly kind: 'group'; readonly update: GroupUpdate }
  | { readonly id: number; readonly kind: 'problem'; readonly reason: { code: string; message: string } }
  | { readonly id: number; readonly kind: 'gap' }

/** What others did live in the open conversation, for the one who listens instead of looking. */
export interface Arrival {
  readonly conversation: string
  readonly messages: readonly Message[]
  /** Those that were edited or taken back. */
  readonly changed: readonly Message[]
}

export interface ChatStore {
  readonly chat: Chat
  readonly me: string
  readonly state: ShallowRef<Chat['state']>
  readonly conversations: ShallowRef<readonly Conversation[]>
  readonly moreConversations: Ref<boolean>
  readonly loaded: Ref<boolean>
  readonly unread: ComputedRef<number>
  readonly timelines: Timelines
  readonly presences: Presences
  readonly profiles: Profiles
  readonly typings: ShallowRef<Typings>
  readonly lab: Lab
  readonly arrival: ShallowRef<Arrival | undefined>
  readonly notices: ShallowRef<readonly Notice[]>
  /** What is written and not sent, by conversation. */
  readonly drafts: Map<string, string>
  conversation(id: string): Conversation | undefined
  loadMoreConversations(): Promise<void>
  send(conversation: string, text: string): void
  retry(message: Message): void
  discard(message: Message): void
  /** Gives whether it was done; what went wrong is told. */
  edit(message: Message, text: string): Promise<boolean>
  recall(message: Message): void
  /** Reacts, or takes one's own same reaction back. */
  toggleReaction(message: Message, reaction: string): void
  markRead(conversation: string, seq: number): void
  /** Something was typed: the others are told, if they can be. */
  typed(conversation: string): void
  tell(error: unknown): void
  dismiss(notice: Notice): void
  stop(): void
}

const CONVERSATION_PAGE = 50
/** Events of one burst are applied together: one pass over a bounded window per this time, not per message. */
const FLUSH_MS = 16
const NOTICES_MAX = 3
const NOTICE_MS = 6_000

/** The state of the app, fed by the chat's events. It lives as long as the session. */
export function createChatStore(chat: Chat): ChatStore {
  const state = shallowRef(chat.state)
  const conversations = shallowRef<readonly Conversation[]>([])
  const moreConversations = ref(false)
  const loaded = ref(false)
  const arrival = shallowRef<Arrival>()
  const notices = shallowRef<readonly Notice[]>([])
  const timelines = new Timelines(chat, () => state.value.status === 'online', tell)
  const presences = new Presences(chat, tell)
  const profiles = new Profiles(chat, tell)
  const typings = shallowRef<Typings>(new Map())
  const lab = createLab(chat)
  const marked = new Map<string, number>()
  let noticeId = 0
  let listEnd: string | undefined

  // Bursts: what came since the last flush.
  let messages: Message[] = []
  let altered: Message[] = []
  let live: Message[] = []
  let rewritten: Message[] = []
  let changed: Conversation[] = []
  let timer: number | undefined

  function soon(): void {
    timer ??= window.setTimeout(flush, FLUSH_MS)
  }

  function flush(): void {
    timer = undefined
    const [batch, changes, heard, anew, moved] = [messages, altered, live, rewritten, changed]
    messages = []
    altered = []
    live = []
    rewritten = []
    changed = []
    conversations.value = upsert(conversations.value, moved)
    timelines.merge(batch)
    timelines.replace(changes)
    const open = timelines.openId
    const forOpen = (list: Message[]): Message[] => list.filter((message) => message.conversation === open)
    const [came, became] = [forOpen(heard), forOpen(anew)]
    if (open !== undefined && came.length + became.length > 0) {
      arrival.value = { conversation: open, messages: came, changed: became }
    }
  }

  async function loadConversations(): Promise<void> {
    try {
      const page = await chat.conversations({ limit: CONVERSATION_PAGE })
      accept(page)
    } catch (error) {
      tell(error)
    } finally {
      loaded.value = true
    }
  }

  async function loadMoreConversations(): Promise<void> {
    if (listEnd === undefined) return
    try {
      accept(await chat.conversations({ limit: CONVERSATION_PAGE, before: listEnd }))
    } catch (error) {
      tell(error)
    }
  }

  function accept(page: readonly Conversation[]): void {
    // An event may have overtaken this page; what it brought is newer.
    const overtaking = new Map(changed.map((conversation) => [conversation.id, conversation]))
    conversations.value = upsert(
      conversations.value,
      page.map((conversation) => overtaking.get(conversation.id) ?? conversation),
    )
    listEnd = page.at(-1)?.id ?? listEnd
    moreConversations.value = page.length === CONVERSATION_PAGE
  }

  function conversation(id: string): Conversation | undefined {
    return conversations.value.find((candidate) => candidate.id === id)
  }

  function deliver(conversationId: string, body: Message['body'], key: string, original?: Message): void {
    const options = {
      key,
      ...(original?.replyTo === undefined ? {} : { replyTo: original.replyTo }),
      ...(original?.mentions === undefined ? {} : { mentions: original.mentions }),
    }
    chat.send(conversationId, body, options).catch((error: unknown) => {
      flush()
      // A failed message says itself why; only what never became one needs another place.
      if (!timelines.isFailed(conversationId, key)) tell(error)
    })
  }

  function tell(error: unknown): void {
    const reason =
      error instanceof ChatError
        ? { code: error.code, message: error.message }
        : { code: 'unknown', message: error instanceof Error ? error.message : String(error) }
    // That the session ended is told by its own banner.
    if (reason.code !== 'closed') notify({ id: ++noticeId, kind: 'problem', reason })
  }

  function notify(notice: Notice): void {
    notices.value = [...notices.value, notice].slice(-NOTICES_MAX)
    window.setTimeout(() => dismiss(notice), NOTICE_MS)
  }

  function dismiss(notice: Notice): void {
    notices.value = notices.value.filter((other) => other.id !== notice.id)
  }

  function markRead(id: string, seq: number): void {
    if ((marked.get(id) ?? 0) >= seq) return
    marked.set(id, seq)
    chat.markRead(id, seq).catch((error: unknown) => {
      marked.delete(id)
      tell(error)
    })
  }

  const unsubscribe = [
    chat.on('message', (message) => {
      messages.push(message)
      if (message.from !== chat.user) live.push(message)
      soon()
    }),
    chat.on('change', ({ kind, by, message }) => {
      altered.push(message)
      if (by !== chat.user && (kind === 'edited' || kind === 'recalled')) rewritten.push(message)
      soon()
    }),
    chat.on('outbox', (message) => {
      messages.push(message)
      soon()
    }),
    chat.on('conversation', (conversation) => {
      changed.push(conversation)
      soon()
    }),
    chat.on('typing', (typing) => {
      typings.value = withTyping(typings.value, typing)
    }),
    chat.on('state', (next) => {
      const back = next.status === 'online' && state.value.status !== 'online'
      state.value = next
      if (!back) return
      timelines.online()
      profiles.again()
    }),
    chat.on('group', (update) => {
      timelines.membersChanged(update.conversation)
      profiles.mayBeSeen()
      // What one did oneself, or what happened while one was away, needs no telling.
      if (update.by !== chat.user && state.value.caughtUp) notify({ id: ++noticeId, kind: 'group', update })
    }),
    chat.on('gap', ({ conversation }) => {
      // A large group that went on for long, or in which much has changed: its newest messages are read anew, and what is
      // before them loads by scrolling.
      if (conversation !== undefined) return timelines.reload(conversation)
      notify({ id: ++noticeId, kind: 'gap' })
      void loadConversations()
      timelines.reload()
      profiles.again()
    }),
  ]
  const stopListing = watch(conversations, (list) => {
    presences.show('list', list.flatMap(({ peer, left }) => (peer === undefined || left ? [] : [peer])))
  })
  // The state may have moved between connecting and listening.
  state.value = chat.state
  void loadConversations()

  return {
    chat,
    me: chat.user,
    state,
    conversations,
    moreConversations,
    loaded,
    unread: computed(() => unreadOf(conversations.value)),
    timelines,
    presences,
    profiles,
    typings,
    lab,
    arrival,
    notices,
    drafts: new Map(),
    conversation,
    loadMoreConversations,
    send: (id, text) => deliver(id, { text }, newKey()),
    retry: (message) => deliver(message.conversation, message.body, message.key, message),
    discard: (message) => {
      chat
        .discard(message.key)
        .then(() => timelines.discard(message))
        .catch(tell)
    },
    // What becomes of it is told as of anybody's change.
    edit: ({ conversation, seq }, text) =>
      chat.edit(conversation, seq, { text }).then(
        () => true,
        (error: unknown) => {
          tell(error)
          return false
        },
      ),
    recall: ({ conversation, seq }) => void chat.recall(conversation, seq).catch(tell),
    toggleReaction: ({ conversation, seq, reactions }, reaction) => {
      const own = reactions?.some((one) => one.reaction === reaction && one.users.includes(chat.user)) ?? false
      const done = own ? chat.unreact(conversation, seq, reaction) : chat.react(conversation, seq, reaction)
      done.catch(tell)
    },
    markRead,
    // It is of the moment: what could not be told now is worth nothing later.
    typed: (id) => void chat.typing(id).catch(() => undefined),
    tell,
    dismiss,
    stop: () => {
      stopListing()
      presences.stop()
      profiles.stop()
      lab.stop()
      unsubscribe.forEach((off) => off())
      window.clearTimeout(timer)
    },
  }
}

/** 128 random bits; `crypto.randomUUID` is missing on pages that are not secure contexts. */
function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
