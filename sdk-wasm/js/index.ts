/**
 * Hongyan: chat for any web page.
 *
 * This layer is the shape that JavaScript people expect: a plain class, promises, listeners. What it does is decided
 * in WebAssembly. Importing it does nothing; `connect` loads the module.
 */

import load, * as wasm from './wasm/hongyan.js'
import type {
  Body,
  Change,
  Conversation,
  Device,
  ErrorCode,
  ErrorInfo,
  GroupUpdate,
  MemberPage,
  Message,
  Presence,
  Profile,
  State,
  Typing,
} from './wasm/hongyan.js'

export type {
  Body,
  Change,
  Conversation,
  Device,
  DeviceKind,
  DevicePresence,
  ErrorCode,
  ErrorInfo,
  Group,
  GroupUpdate,
  Json,
  Member,
  MemberPage,
  Message,
  Presence,
  PresenceCause,
  PresenceStatus,
  Profile,
  Reaction,
  State,
  Typing,
} from './wasm/hongyan.js'

/** A string, or a function that gives one: it is asked at the start and whenever the one before is about to expire. */
export type TokenProvider = string | (() => string | Promise<string>)

/** What `connect` takes. */
export interface ConnectOptions {
  /** Who logs in: the `sub` of the token. */
  user: string
  token: TokenProvider
  /** The relay's origin, such as `https://chat.example.com`; the page's own by default. */
  url?: string
  /** What this device is; `'web'` by default. */
  deviceKind?: 'web' | 'webview' | 'miniprogram' | 'official' | 'android' | 'ios' | 'server'
  /** `'memory'` keeps nothing on this device. */
  storage?: 'indexeddb' | 'memory'
  /** The WebAssembly module, where it can't be loaded from beside this script. The first call decides. */
  wasm?: string | URL | Request | Response | BufferSource | WebAssembly.Module
}

/** What was not told one by one: it is in the conversation list and the histories. */
export interface Gap {
  /** Of this conversation only. */
  readonly conversation?: string
  /** Only messages of a large group: the last before the gap that was told, 0 when none was. */
  readonly after?: number
  /** The first message that is told again. */
  readonly before?: number
}

/** The events of a chat and what their listeners are given. */
export interface Events {
  /** A message has arrived, one's own included: each once, in the log's order. */
  message: Message
  /** A message was edited, recalled or reacted to: each change once, in their order, and after the message. */
  change: Change
  /** A message of one's own is being sent, was sent or failed. */
  outbox: Message
  /** A line of the conversation list is now as given. */
  conversation: Conversation
  /** The connection or the cache changed. */
  state: State
  /**
   * Not everything came as `message` and `change` events. Empty: the relay could not continue from where this device was,
   * so read conversations and history anew. With a conversation alone: so much has changed in it that its history is to be
   * read anew. With bounds too: of a large group only the newest messages are told one by one to who was away for long;
   * those between are in its history.
   */
  gap: Gap
  /** A group's membership or title changed. */
  group: GroupUpdate
  /** A watched user is as given now: see `presence.watch`. */
  presence: Presence
  /**
   * A user shows this of herself now: each change that becomes known, once, and never an older one after a newer one. It
   * is told of this user and of who has a direct conversation with her; of others when `profiles.get` brings it.
   */
  profile: Profile
  /** Somebody began or ceased to write something. */
  typing: Typing
}

/** Why something failed. `class` says whether it may succeed later, on a new connection, or never. */
export class ChatError extends Error {
  override readonly name = 'ChatError'
  readonly code: ErrorCode
  readonly class: 'retry' | 'reconnect' | 'stop'

  constructor(info: ErrorInfo) {
    super(info.message)
    this.code = info.code
    this.class = info.class
  }
}

type Listener<Payload> = (payload: Payload) => void
type Listeners = { [Event in keyof Events]: Set<Listener<Events[Event]>> }

let loading: Promise<unknown> | undefined

/**
 * Opens a chat. It resolves as soon as the local cache can be read and does not wait for the network: watch `state`.
 *
 * @throws ChatError when the options are wrong, or Error when the WebAssembly module can't be loaded.
 */
export async function connect(options: ConnectOptions): Promise<Chat> {
  loading ??= load(options?.wasm === undefined ? undefined : { module_or_path: options.wasm })
  try {
    await loading
  } catch (error) {
    // The next call may try again: the network may be back.
    loading = undefined
    throw error
  }
  const listeners: Listeners = {
    message: new Set(),
    change: new Set(),
    outbox: new Set(),
    conversation: new Set(),
    state: new Set(),
    gap: new Set(),
    group: new Set(),
    presence: new Set(),
    profile: new Set(),
    typing: new Set(),
  }
  let chat: Chat | undefined
  let state: State | undefined
  const emit = (event: string, payload: unknown): void => {
    if (event === 'state') {
      state = freeze(payload as State)
      if (chat !== undefined) chat.state = state
    }
    if (!(event in listeners)) return
    freeze(payload)
    for (const listener of [...listeners[event as keyof Events]]) {
      try {
        ;(listener as Listener<unknown>)(payload)
      } catch (error) {
        report(error)
      }
    }
  }
  const opened = await settle(wasm.open(options, emit))
  chat = new Chat(opened.id, options.user, opened.device, state ?? freeze(opened.state), listeners)
  return chat
}

/**
 * An open chat. A plain object: it may be kept in a store, wrapped by a framework's proxy, and needs no freeing;
 * `close` ends it.
 */
export class Chat {
  /** Who is logged in. */
  readonly user: string
  /** This device's id. */
  readonly device: string
  /** The connection and the cache; `on('state', …)` tells when it changes. */
  state: State
  /** Groups. */
  readonly groups: Groups
  /** Who is there. */
  readonly presence: Presences
  /** What users show of themselves. */
  readonly profiles: Profiles
  /** One's own devices. */
  readonly devices: Devices
  /** @internal */
  readonly id: number
  /** @internal */
  readonly listeners: Listeners

  /** @internal Use `connect`. */
  constructor(id: number, user: string, device: string, state: State, listeners: Listeners) {
    this.id = id
    this.user = user
    this.device = device
    this.state = state
    this.listeners = listeners
    this.groups = new Groups(id)
    this.presence = new Presences(id)
    this.profiles = new Profiles(id)
    this.devices = new Devices(id)
  }

  /** Listens; the function that is returned ends it. What a listener throws is reported and stops nothing. */
  on<Event extends keyof Events>(event: Event, listener: (payload: Events[Event]) => void): () => void {
    const listeners = this.listeners[event]
    if (listeners === undefined) throw new TypeError(`There is no event '${event}'.`)
    listeners.add(listener)
    return () => {
      listeners.delete(listener)
    }
  }

  /** The id of the direct conversation with a user; it needs no network. */
  async direct(user: string): Promise<string> {
    return attempt(() => wasm.direct(this.id, user))
  }

  /**
   * Writes a message: shown at once by an `outbox` event, kept through reloads, sent when there is a connection.
   * Resolves when it is durable at the relay; rejects only when it is refused for good, which the relay alone decides:
   * offline, a message to a group that one has left waits as any other. With the key of a failed message that one is
   * tried again.
   */
  send(
    conversation: string,
    body: Body,
    options: { key?: string; replyTo?: number; mentions?: readonly string[] } = {},
  ): Promise<Message> {
    return ask(this.id, 'send', conversation, body, options?.key, options?.replyTo, options?.mentions)
  }

  /** Writes a message of one's own anew. Gives it as it is then; so do the calls below. */
  edit(conversation: string, seq: number, body: Body): Promise<Message> {
    return ask(this.id, 'edit', conversation, seq, body)
  }

  /** Takes a message back: one's own, or in one's own group anybody's. There is left who sent it and when. */
  recall(conversation: string, seq: number): Promise<Message> {
    return ask(this.id, 'recall', conversation, seq)
  }

  /** Reacts to a message with an emoji or a word. */
  react(conversation: string, seq: number, reaction: string): Promise<Message> {
    return ask(this.id, 'react', conversation, seq, reaction)
  }

  /** Takes one's reaction back. */
  unreact(conversation: string, seq: number, reaction: string): Promise<Message> {
    return ask(this.id, 'unreact', conversation, seq, reaction)
  }

  /** Forgets a failed message. */
  discard(key: string): Promise<void> {
    return ask(this.id, 'discard', key)
  }

  /**
   * Messages ascending by `seq`, from the cache where it has them: those before or after a `seq`, or the newest,
   * followed by what waits to be sent (`seq` 0). `limit` is 50 by default, 100 at most.
   */
  history(
    conversation: string,
    options: { before?: number; after?: number; limit?: number } = {},
  ): Promise<Message[]> {
    return ask(this.id, 'history', conversation, options?.before, options?.after, options?.limit)
  }

  /** The conversation list, newest first; `before` is the last id of the page before. */
  conversations(options: { limit?: number; before?: string } = {}): Promise<Conversation[]> {
    return ask(this.id, 'conversations', options?.limit, options?.before)
  }

  /** Everything up to `seq`, or to the newest, is read; on all devices of this user. */
  markRead(conversation: string, seq?: number): Promise<void> {
    return ask(this.id, 'markRead', conversation, seq)
  }

  /** This user writes something. Call it at every key: the others are told at most every 3 s, and for 5 s. */
  typing(conversation: string): Promise<void> {
    return ask(this.id, 'typing', conversation)
  }

  /** Says goodbye, if this is the device's last tab, and lets go of everything; the cache stays. */
  async close(): Promise<void> {
    wasm.release(this.id)
  }

  /** Ends this device's session in all its tabs and empties its cache, unless it is to be kept. */
  async logout(options: { keepCache?: boolean } = {}): Promise<void> {
    try {
      await ask(this.id, 'logout', options?.keepCache ?? false)
    } catch (error) {
      // To leave twice is no error.
      if (!(error instanceof ChatError && (error.code === 'closed' || error.code === 'logged-out'))) throw error
    } finally {
      wasm.release(this.id)
    }
  }
}

/** Groups: the creator owns it and may add, remove and rename; everybody may leave. */
export class Groups {
  /** @internal */
  readonly id: number

  /** @internal */
  constructor(id: number) {
    this.id = id
  }

  /** Makes a group of oneself and others; gives its conversation's id. */
  create(options: { title: string; members: readonly string[] }): Promise<string> {
    return ask(this.id, 'createGroup', options?.title, options?.members)
  }

  /** Adds members. */
  add(conversation: string, users: readonly string[]): Promise<void> {
    return ask(this.id, 'addMembers', conversation, users)
  }

  /** Removes members. */
  remove(conversation: string, users: readonly string[]): Promise<void> {
    return ask(this.id, 'removeMembers', conversation, users)
  }

  /** Leaves. */
  leave(conversation: string): Promise<void> {
    return ask(this.id, 'leaveGroup', conversation)
  }

  /** Gives it another title. */
  rename(conversation: string, title: string): Promise<void> {
    return ask(this.id, 'renameGroup', conversation, title)
  }

  /** Who is in it, by user id. */
  members(conversation: string, options: { after?: string; limit?: number } = {}): Promise<MemberPage> {
    return ask(this.id, 'members', conversation, options?.after, options?.limit)
  }
}

/** What `presence.watch` gives. */
export interface PresenceWatch {
  /** How they were when it began, in the order asked for; changes come as `presence` events. */
  readonly current: readonly Presence[]
  /** Watches them no more, unless another watch does. */
  stop(): void
}

/** Who is there: members of a direct conversation or of a group may watch each other. */
export class Presences {
  /** @internal */
  readonly id: number
  /** @internal */
  readonly watches: Set<readonly string[]> = new Set()

  /** @internal */
  constructor(id: number) {
    this.id = id
  }

  /** Watches users. Who may not be watched, or does not exist, is `'unknown'`. */
  async watch(users: readonly string[]): Promise<PresenceWatch> {
    const watched: readonly string[] = [...users]
    this.watches.add(watched)
    try {
      const all = await this.tell()
      const current = watched.flatMap((user) => all.find((presence) => presence.user === user) ?? [])
      const stop = (): void => {
        // An answer is of no interest; a chat that is closed watches nobody.
        if (this.watches.delete(watched)) this.tell().catch(() => undefined)
      }
      return { current, stop }
    } catch (error) {
      this.watches.delete(watched)
      throw error
    }
  }

  /** Shows this user to nobody, on all devices, until it is set anew. */
  setInvisible(invisible: boolean): Promise<void> {
    return ask(this.id, 'setInvisible', invisible)
  }

  /** @internal */
  private tell(): Promise<Presence[]> {
    return ask(this.id, 'watch', [...new Set([...this.watches].flat())])
  }
}

/** What users show of themselves: a name and a picture. */
export class Profiles {
  /** @internal */
  readonly id: number

  /** @internal */
  constructor(id: number) {
    this.id = id
  }

  /**
   * What a user, or each of several (1,000 at most), shows of herself: at once from the cache, and then a newer one comes as
   * a `profile` event. Only members of a direct conversation or of a group may see it; others' has `version` 0 and no name.
   * Version 0 with a name may be old, since much was missed or the relay's data was replaced: it is asked for anew.
   */
  get(user: string): Promise<Profile>
  get(users: readonly string[]): Promise<Profile[]>
  get(users: string | readonly string[]): Promise<Profile | Profile[]> {
    return typeof users === 'string' ? first(ask(this.id, 'profiles', [users])) : ask(this.id, 'profiles', users)
  }

  /** Changes one's own, on all devices; gives it as it is then. What is left out stays, and `''` takes it away. */
  set(changes: { name?: string; avatar?: string }): Promise<Profile> {
    return first(ask(this.id, 'setProfile', changes?.name, changes?.avatar))
  }
}

/** One's own devices. */
export class Devices {
  /** @internal */
  readonly id: number

  /** @internal */
  constructor(id: number) {
    this.id = id
  }

  /** All of them, this one included. */
  list(): Promise<Device[]> {
    return ask(this.id, 'devices')
  }

  /** Ends the session of another device, also of one that is not connected. */
  signOut(device: string): Promise<void> {
    return ask(this.id, 'signOut', device)
  }
}

/** Asks, here or of the tab that leads. */
async function ask<Value>(id: number, name: string, ...args: unknown[]): Promise<Value> {
  return settle(wasm.ask(id, [name, ...args.map(copied)]) as Promise<Value>)
}

async function first<Value>(list: Promise<Value[]>): Promise<Value> {
  return (await list)[0]!
}

/** What is given may be a framework's proxy, or change later; another tab needs plain data. */
function copied(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  try {
    return JSON.parse(JSON.stringify(value))
  } catch {
    throw new ChatError({ code: 'bad-request', class: 'stop', message: 'The arguments must be plain data (JSON).' })
  }
}

/** Results are frozen (a list is the caller's own, what it holds is frozen), and errors become `ChatError`s. */
async function settle<Value>(promise: Promise<Value>): Promise<Value> {
  try {
    const value = await promise
    if (Array.isArray(value)) value.forEach(freeze)
    else freeze(value)
    return value
  } catch (error) {
    throw chatError(error)
  }
}

function attempt<Value>(call: () => Value): Value {
  try {
    return call()
  } catch (error) {
    throw chatError(error)
  }
}

function chatError(thrown: unknown): unknown {
  const isInfo = typeof thrown === 'object' && thrown !== null && 'code' in thrown && 'class' in thrown
  return isInfo ? new ChatError(thrown as ErrorInfo) : thrown
}

/** Freezes plain data through and through. */
function freeze<Value>(value: Value): Value {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  // Plain data inherits nothing that this would find, and most members need no freezing.
  for (const name in value) if (typeof value[name] === 'object') freeze(value[name])
  return Object.freeze(value)
}

/** What a listener throws is its page's error: shown as one, and nothing of ours stops. */
function report(error: unknown): void {
  if (typeof reportError === 'function') reportError(error)
  else console.error(error)
}
