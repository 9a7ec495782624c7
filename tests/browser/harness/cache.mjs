// @ts-check
/** Reads what the SDK wrote into IndexedDB, without the SDK: keys by themselves, records byte by byte. */

/**
 * @typedef {{ conversation: string, seq: number, key: string, from: string }} CachedMessage
 * @typedef {{ messages: CachedMessage[], records: number, outbox: { conversation: string, key: string }[], conversations: string[], epoch: string, cursor: number | undefined }} Cache
 */

/**
 * The cache of a user in a page's origin; `undefined` when there is none.
 * @param {Pick<import('playwright-core').Page, 'evaluate'>} page
 * @param {string} user
 * @returns {Promise<Cache | undefined>}
 */
export async function readCache(page, user) {
  const raw = await page.evaluate(async (user) => {
    const name = (await indexedDB.databases()).map((one) => one.name ?? '').find((one) => one.startsWith('hongyan:') && one.endsWith(` ${user}`))
    if (name === undefined) return undefined
    /** @type {<T>(request: IDBRequest<T>) => Promise<T>} */
    const answer = (request) =>
      new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result)
        request.onerror = () => reject(request.error)
      })
    const database = await answer(indexedDB.open(name))
    try {
      const stores = ['meta', 'conversations', 'messages', 'outbox']
      const transaction = database.transaction(stores)
      const bytes = (/** @type {Uint8Array[]} */ records) => records.map((record) => Array.from(record))
      const [meta, conversations, messageKeys, messages, outbox] = await Promise.all([
        answer(transaction.objectStore('meta').getAll()),
        answer(transaction.objectStore('conversations').getAllKeys()),
        answer(transaction.objectStore('messages').getAllKeys()),
        answer(transaction.objectStore('messages').getAll()),
        answer(transaction.objectStore('outbox').getAll()),
      ])
      return {
        meta: bytes(meta),
        conversations: conversations.map(String),
        messageKeys: messageKeys.map((key) => /** @type {[string, number, number]} */ (key)),
        messages: bytes(messages),
        outbox: bytes(outbox),
      }
    } finally {
      database.close()
    }
  }, user)
  if (raw === undefined) return undefined
  /** @type {Map<string, { version: number, message: CachedMessage }>} */
  const newest = new Map()
  raw.messages.forEach((record, index) => {
    const [conversation, last, first] = raw.messageKeys[index] ?? ['', 0, 0]
    const { version, messages } = readRun(record)
    if (messages.length !== last - first + 1) throw new Error(`The run at [${conversation}, ${last}, ${first}] has ${messages.length} messages.`)
    messages.forEach((message, at) => {
      const fields = decode(message)
      const seq = first + at
      const inside = [text(fields, 1), number(fields, 2)]
      if (inside[0] !== conversation || inside[1] !== seq) {
        throw new Error(`The message at [${conversation}, ${seq}] is the message [${inside}].`)
      }
      if (version < (newest.get(`${conversation} ${seq}`)?.version ?? 0)) return
      newest.set(`${conversation} ${seq}`, { version, message: { conversation, seq, key: text(fields, 3), from: text(fields, 4) } })
    })
  })
  const messages = [...newest.values()].map(({ message }) => message).sort((a, b) => (a.conversation < b.conversation ? -1 : a.conversation > b.conversation ? 1 : a.seq - b.seq))
  const outbox = raw.outbox.map((record) => {
    const send = decode(decode(record).get(1)?.[0])
    return { conversation: text(send, 1), key: text(send, 2) }
  })
  const meta = raw.meta[0] === undefined ? undefined : decode(raw.meta[0])
  return { messages, records: raw.messages.length, outbox, conversations: raw.conversations, epoch: meta ? text(meta, 4) : '', cursor: meta && number(meta, 5) }
}

/**
 * A run of messages: its version in 8 bytes, then each message after its length.
 * @param {number[]} record
 */
function readRun(record) {
  const version = record.slice(0, 8).reduce((value, byte) => value * 256 + byte, 0)
  /** @type {number[][]} */
  const messages = []
  for (let at = 8; at < record.length; ) {
    let length = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = record[at++] ?? 0
      length += (byte & 0x7f) * scale
      if (byte < 0x80) break
    }
    messages.push(record.slice(at, (at += length)))
  }
  return { version, messages }
}

/** @typedef {Map<number, any[]>} Fields numbers, or arrays of bytes, by field number */

/**
 * Protocol Buffers' wire format, as far as these records use it.
 * @param {number[]} bytes
 * @returns {Fields}
 */
function decode(bytes) {
  /** @type {Fields} */
  const fields = new Map()
  let at = 0
  const varint = () => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++]
      if (byte === undefined) throw new Error('A record ends too early.')
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value
    }
  }
  while (at < bytes.length) {
    const tag = varint()
    const type = tag % 8
    if (type !== 0 && type !== 2) throw new Error(`A record has wire type ${type}.`)
    let value
    if (type === 0) value = varint()
    else {
      const length = varint()
      value = bytes.slice(at, (at += length))
      if (value.length < length) throw new Error('A record ends too early.')
    }
    const field = Math.floor(tag / 8)
    fields.set(field, [...(fields.get(field) ?? []), value])
  }
  return fields
}

/**
 * @param {Fields} fields
 * @param {number} field
 * @returns {string}
 */
function text(fields, field) {
  return Buffer.from(fields.get(field)?.[0] ?? []).toString('utf8')
}

/**
 * @param {Fields} fields
 * @param {number} field
 * @returns {number}
 */
function number(fields, field) {
  return fields.get(field)?.[0] ?? 0
}
