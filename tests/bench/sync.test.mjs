// @ts-check
/**
 * How long a browser takes to catch up with what its user missed: real Chromium, the release relay, the cache in IndexedDB.
 * Beside it, how long the same browser takes to write the same bytes into IndexedDB and do nothing else, in as few records
 * as the cache does. It asserts nothing of time; each figure is a line of JSON for `npm run bench`.
 */

import assert from 'node:assert/strict'
import { join } from 'node:path'

import { figuresProgram } from '../../scripts/lib/paths.mjs'
import { run } from '../../scripts/lib/run.mjs'
import { Front } from '../browser/harness/front.mjs'
import { Relay } from '../browser/harness/relay.mjs'
import { scenario } from '../browser/harness/scene.mjs'
import { SdkPage } from '../browser/harness/sdk.mjs'
import { until } from '../browser/harness/wait.mjs'

/** References that wait: 1×, about 3× and 10×. */
const REFERENCES = [10_000, 30_000, 100_000]
/** Bytes of a message's text. */
const TEXT_BYTES = 100
/** A message with its key and names, as the cache holds it. */
const RECORD_BYTES = 220
/** Conversations that they are spread over, in turn. */
const CONVERSATIONS = 100
/** References that the raw loop writes in one transaction, with a record of messages for each conversation. */
const PER_TRANSACTION = 2_048
/** For 100,000 references, in seconds. */
const SECONDS_MAX = 2
/** Milliseconds. */
const LONGEST_TASK_MAX = 50

for (const references of REFERENCES) {
  scenario(`bench: ${references} references into IndexedDB`, async (scene) => {
    const relay = await Relay.start(scene)
    const front = await Front.open(scene, () => relay.port)
    // The relay's own address from the start: a proxy would be measured, too, and each address has a cache of its own. A
    // device that was never there would begin with the conversation list, and miss nothing.
    const page = await SdkPage.open(scene, 'alice', front.origin, { connect: false })
    const url = () => `ws://127.0.0.1:${relay.port}`
    await page.connect({ url: url() })
    await page.online()
    await until('its cache knows of the queue', async () => ((await page.cache())?.epoch ?? '') !== '')
    await page.page.evaluate(() => window.chat.close())
    await page.load(front.origin)
    await relay.kill()
    await run(figuresProgram, ['fill', '--data', join(relay.folder, 'data'), '--user', 'alice', '--messages', String(references), '--text-bytes', String(TEXT_BYTES)])
    await relay.start()
    const raw = await rawWrites(await SdkPage.open(scene, 'nobody', front.origin, { connect: false }), references)
    await begin(page, url())
    const seen = await until('all references came', async () => {
      const seen = await page.page.evaluate(() => window.kept.sync)
      return seen.messages >= references && seen
    }, { within: 240_000, seen: () => page.page.evaluate(() => window.kept.sync) })
    const cache = await page.page.evaluate(() => window.chat.state.storage)
    assert.equal(seen.messages, references, 'each message came once')
    assert.equal(cache, 'indexeddb')
    const full = references === REFERENCES.at(-1)
    tell({
      figure: `sync of ${references} references into IndexedDB`, value: seen.ms / 1_000, unit: 's',
      beside: { what: 'as many bytes, raw, in as few records', value: raw / 1_000 },
      ...(full ? { goal: { of: 'value', most: SECONDS_MAX }, met: seen.ms <= 1_000 * SECONDS_MAX } : {}),
      note: `${Math.round((1_000 * references) / seen.ms)} references a second`,
      slope: { of: 'sync into IndexedDB', size: references, sizes: 'references' },
    })
    tell({
      figure: `longest task of the page, sync of ${references}`, value: seen.longest, unit: 'ms',
      beside: { what: 'allowed', value: LONGEST_TASK_MAX },
      goal: { of: 'value', most: LONGEST_TASK_MAX }, met: seen.longest <= LONGEST_TASK_MAX,
      note: `${seen.long} tasks of more than 50 ms; the first ${Math.round(seen.first)} ms after the connection began`,
      slope: { of: 'longest task of the page in sync', size: references, sizes: 'references' },
    })
  }, { timeout: 400_000 })
}

/** @param {object} figure */
function tell(figure) {
  console.log(JSON.stringify(figure))
}

/**
 * Connects, counts what comes, and looks at how long the page's tasks take.
 * @param {SdkPage} page
 * @param {string} url of the relay itself
 */
async function begin(page, url) {
  await page.page.evaluate(async ({ url, user }) => {
    // Compiling the module is not what is measured, and is done once per page.
    const token = await (await fetch(`/dev/token?user=${user}`)).text()
    const sync = (window.kept.sync = { messages: 0, ms: 0, first: 0, long: 0, longest: 0 })
    const began = performance.now()
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        sync.long += 1
        sync.longest = Math.max(sync.longest, entry.duration)
      }
    }).observe({ type: 'longtask' })
    // Tasks of less than 50 ms are not told by the observer: what lies between two turns is measured besides.
    const { port1, port2 } = new MessageChannel()
    let last = performance.now()
    port1.onmessage = () => {
      const now = performance.now()
      sync.longest = Math.max(sync.longest, now - last)
      last = now
      setTimeout(() => { last = performance.now(); port2.postMessage(0) }, 0)
    }
    port2.postMessage(0)
    window.chat = await window.hongyan.connect({ user, url, token })
    window.chat.on('message', () => {
      if (sync.messages === 0) sync.first = performance.now() - began
      sync.messages += 1
      sync.ms = performance.now() - began
    })
  }, { url, user: page.user })
}

/**
 * Milliseconds for as many bytes, keyed as the cache keys them.
 * @param {SdkPage} page
 * @param {number} references
 */
function rawWrites(page, references) {
  return page.page.evaluate(async ({ references, bytes, batch, conversations }) => {
    /** @type {IDBDatabase} */
    const database = await new Promise((resolve, reject) => {
      const request = indexedDB.open('raw')
      request.onupgradeneeded = () => request.result.createObjectStore('messages')
      request.onsuccess = () => resolve(request.result)
      request.onerror = () => reject(request.error)
    })
    const began = performance.now()
    for (let from = 0; from < references; from += batch) {
      const transaction = database.transaction('messages', 'readwrite')
      const store = transaction.objectStore('messages')
      const each = Math.ceil(Math.min(batch, references - from) / conversations)
      for (let of = 0; of < conversations; of++) {
        const last = Math.floor(from / conversations) + each
        store.put(new Uint8Array(bytes * each), [`~5.alice.writer-${of}`, last, last - each + 1])
      }
      transaction.commit()
      await new Promise((resolve, reject) => {
        transaction.oncomplete = resolve
        transaction.onabort = () => reject(transaction.error)
      })
    }
    return performance.now() - began
  }, { references, bytes: RECORD_BYTES, batch: PER_TRANSACTION, conversations: CONVERSATIONS })
}
