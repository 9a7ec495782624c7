/**
 * Hongyan: chat for any web page.
 *
 * This layer is the shape that JavaScript people expect: a plain class, promises, listeners. What it does is decided
 * in WebAssembly. Importing it does nothing; `connect` loads the module.
 */

import load, * as wasm from './wasm/hongyan.js'
import type { Body, Conversation, ErrorCode, ErrorInfo, GroupUpdate, MemberPage, Message, State } from './wasm/hongyan.js'

export type {
  Body,
  Conversation,
  ErrorCode,
  ErrorInfo,
  Group,
  GroupUpdate,
  Json,
  Member,
  MemberPage,
  Message,
  State,
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

/** The events of a chat and what their listeners are given. */
export interface Events {
  /** A message has arrived, one's own included: each once, in the log's order. */
  message: Message
  /** A message of one's own is being sent, was sent or failed. */
  outbox: Message
  /** A line of the conversation list is now as given. */
  conversation: Conversation
  /** The connection or the cache changed. */
  state: State
  /** The relay could not continue from where this device was: read conversations and history anew. */
  gap: Readonly<Record<string, never>>
  /** A group's membership changed. */
  group: GroupUpdate
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
    outbox: new Set(),
    conversation: new Set(),
    state: new Set(),
    gap: new Set(),
    group: new Set(),
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
   * Resolves when it is durable at the relay; rejects only when it is refused for good. With the key of a failed
   * message that one is tried again.
   */
  send(
    conversation: string,
    body: Body,
    options: { key?: string; replyTo?: number; mentions?: readonly string[] } = {},
  ): Promise<Message> {
    return settle(wasm.send(this.id, conversation, body, options?.key, options?.replyTo, options?.mentions))
  }

  /** Forgets a failed message. */
  discard(key: string): Promise<void> {
    return settle(wasm.discard(this.id, key))
  }

  /**
   * Messages ascending by `seq`, from the cache where it has them: those before or after a `seq`, or the newest,
   * followed by what waits to be sent (`seq` 0). `limit` is 50 by default, 100 at most.
   */
  history(
    conversation: string,
    options: { before?: number; after?: number; limit?: number } = {},
  ): Promise<Message[]> {
    return settle(wasm.history(this.id, conversation, options?.before, options?.after, options?.limit))
  }

  /** The conversation list, newest first; `before` is the last id of the page before. */
  conversations(options: { limit?: number; before?: string } = {}): Promise<Conversation[]> {
    return settle(wasm.conversations(this.id, options?.limit, options?.before))
  }

  /** Everything up to `seq`, or to the newest, is read; on all devices of this user. */
  markRead(conversation: string, seq?: number): Promise<void> {
    return settle(wasm.markRead(this.id, conversation, seq))
  }

  /** Says goodbye and lets go of everything; the cache stays. */
  async close(): Promise<void> {
    await this.end(() => wasm.close(this.id))
  }

  /** Ends this device's session and empties its cache, unless it is to be kept. */
  async logout(options: { keepCache?: boolean } = {}): Promise<void> {
    await this.end(() => wasm.logout(this.id, options?.keepCache ?? false))
  }

  /** @internal */
  private async end(leave: () => Promise<void>): Promise<void> {
    try {
      await settle(leave())
    } catch (error) {
      // Closing twice is no error.
      if (!(error instanceof ChatError && error.code === 'closed')) throw error
    } finally {
      wasm.release(this.id)
    }
  }
}

/** Groups: the creator owns it and may add and remove; everybody may leave. */
export class Groups {
  /** @internal */
  readonly id: number

  /** @internal */
  constructor(id: number) {
    this.id = id
  }

  /** Makes a group of oneself and others; gives its conversation's id. */
  create(options: { title: string; members: readonly string[] }): Promise<string> {
    return settle(wasm.createGroup(this.id, options?.title, options?.members))
  }

  /** Adds members. */
  add(conversation: string, users: readonly string[]): Promise<void> {
    return settle(wasm.addMembers(this.id, conversation, users))
  }

  /** Removes members. */
  remove(conversation: string, users: readonly string[]): Promise<void> {
    return settle(wasm.removeMembers(this.id, conversation, users))
  }

  /** Leaves. */
  leave(conversation: string): Promise<void> {
    return settle(wasm.leaveGroup(this.id, conversation))
  }

  /** Who is in it, by user id. */
  members(conversation: string, options: { after?: string; limit?: number } = {}): Promise<MemberPage> {
    return settle(wasm.members(this.id, conversation, options?.after, options?.limit))
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
  Object.values(value).forEach(freeze)
  return Object.freeze(value)
}

/** What a listener throws is its page's error: shown as one, and nothing of ours stops. */
function report(error: unknown): void {
  if (typeof reportError === 'function') reportError(error)
  else console.error(error)
}
