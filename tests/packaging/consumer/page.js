// What a page does with the package while there is no relay; the test reads `window.seen`.
import { ChatError, connect } from 'hongyan'

async function use() {
  const events = []
  const chat = await connect({ user: 'alice', token: 'no relay will ask for it' })
  chat.on('outbox', (message) => events.push(message))
  const before = await chat.history(await chat.direct('bob'))
  // Never settles here: nobody confirms it. It must not be lost either.
  chat.send(await chat.direct('bob'), { text: '你好' }).catch((error) => events.push(String(error)))
  while (events.length === 0) await new Promise((resume) => setTimeout(resume, 10))
  const after = await chat.history(await chat.direct('bob'))
  const list = await chat.conversations()
  const seen = {
    status: chat.state.status,
    storage: chat.state.storage,
    frozen: Object.isFrozen(after[0]) && Object.isFrozen(after[0].body) && Object.isFrozen(chat.state),
    device: chat.device,
    event: { status: events[0].status, text: events[0].body.text, from: events[0].from, seq: events[0].seq },
    before: before.map((message) => message.body.text),
    after: after.map((message) => message.body.text),
    last: list.map((line) => [line.peer, line.last?.status, line.unread]),
  }
  await chat.close()
  const closed = await chat.send('~5.alice.bob', { text: 'late' }).catch((error) => error)
  return { ...seen, closed: [closed instanceof ChatError, closed.code, closed.class] }
}

async function misuse() {
  const wrong = [
    {},
    { user: 'alice' },
    { user: '', token: 'x' },
    { user: 'a'.repeat(129), token: 'x' },
    { user: 'alice', token: 'x', url: 'ftp://example.com' },
    { user: 'alice', token: 'x', deviceKind: 'toaster' },
  ]
  const results = []
  for (const options of wrong) {
    const error = await connect(options).then(() => 'resolved', (reason) => reason)
    results.push([error instanceof ChatError, error.code, error.class, typeof error.message])
  }
  return results
}

use()
  .then(async (seen) => ({ ...seen, misuse: await misuse() }))
  .then(
    (seen) => (window.seen = seen),
    (error) => (window.seen = { failed: String(error?.stack ?? error) }),
  )
