// What an application writes against the package's types. It is compiled, never run; a line below an
// `@ts-expect-error` must not compile.
import { Chat, ChatError, connect } from 'hongyan'
import type { Body, ConnectOptions, Conversation, ErrorInfo, Events, Group, GroupUpdate, Json, Message, State } from 'hongyan'

const options: ConnectOptions = { user: 'alice', token: async () => (await fetch('/chat-token')).text() }
const chat: Chat = await connect(options)
await connect({ user: 'alice', token: 'a', url: 'https://chat.example.com', deviceKind: 'webview', storage: 'memory' })
await connect({ user: 'alice', token: () => 'a', wasm: new URL('https://example.com/hongyan_bg.wasm') })

const state: State = chat.state
const status: 'connecting' | 'online' | 'offline' | 'stopped' = state.status
const storage: 'indexeddb' | 'host' | 'memory' = state.storage
const retryAt: number | undefined = state.retryAt

const unsubscribe: () => void = chat.on('message', (message) => {
  const seq: number = message.seq
  const sent: 'sending' | 'sent' | 'failed' = message.status
  const body: Body = message.body
  console.log(seq, sent, body.text?.length)
})
chat.on('conversation', (conversation: Conversation) => console.log(conversation.unread, conversation.last?.body))
chat.on('group', (update: GroupUpdate) => console.log(update.group.title, update.users.join()))
chat.on('state', (now) => console.log(now.leader))
unsubscribe()

const bob: string = await chat.direct('bob')
const message: Message = await chat.send(bob, { text: 'hi' }, { key: 'k', replyTo: 1, mentions: ['bob'] })
await chat.send(bob, { kind: 'order', text: 'A new order', lines: [{ sku: 'goose', count: 2 }] })
const page: Message[] = await chat.history(bob, { before: message.seq, limit: 20 })
const list: Conversation[] = await chat.conversations({ limit: 20 })
await chat.markRead(bob, page.at(-1)?.seq ?? 0)
const group: string = await chat.groups.create({ title: 'Geese', members: ['bob', 'carol'] })
await chat.groups.add(group, ['dave'])
await chat.groups.remove(group, ['dave'])
await chat.groups.leave(group)
const shown: string = (await chat.profiles.get('bob')).name ?? 'bob'
const versions: number[] = (await chat.profiles.get(['bob', 'carol'])).map((profile) => profile.version)
await chat.profiles.set({ name: 'Alice', avatar: '' })
chat.on('profile', ({ user, name }) => console.log(user, name, shown, versions))

try {
  await chat.send(bob, { text: '' })
} catch (error) {
  if (error instanceof ChatError) {
    const whatToDo: 'retry' | 'reconnect' | 'stop' = error.class
    const info: Pick<ErrorInfo, 'code' | 'message'> = error
    console.log(whatToDo, info.code === 'rate-limited')
    // @ts-expect-error the list of codes is closed
    console.log(error.code === 'no-such-code')
  }
}
await chat.close()
await chat.logout({ keepCache: true })

// @ts-expect-error a user is needed
await connect({ token: 'a' })
// @ts-expect-error there is no such event
chat.on('mesage', () => undefined)
// @ts-expect-error a body says something
await chat.send(bob, {})
// @ts-expect-error JSON holds no functions
await chat.send(bob, { kind: 'x', later: () => undefined })
// @ts-expect-error there is no such member
console.log(message.sequence)
// @ts-expect-error a state is not written by applications' guesses
const wrong: 'up' = chat.state.status

type Json_ = Json
type Listener = (payload: Events['outbox']) => void
export { group, list, options, retryAt, status, storage, wrong }
export type { Group, Json_, Listener }
