// @ts-check
/// <reference path="./globals.d.ts" />
/** Messages whose texts tell their order. */

/**
 * Texts that a page was told, in their order; each as often as it was told.
 * @param {import('./sdk.mjs').SdkPage} tab
 * @param {string} from
 */
export async function told(tab, from) {
  const messages = await tab.events('message')
  return messages.filter((message) => message.from === from).map((message) => message.body.text ?? '')
}

/** @param {number} first @param {number} last @param {string} prefix */
export const texts = (first, last, prefix = 'm') => Array.from({ length: last - first + 1 }, (_, index) => `${prefix}${first + index}`)

/**
 * Sends without waiting for one another.
 * @param {import('./sdk.mjs').SdkPage} page
 * @param {string} peer
 * @param {string[]} list
 */
export function post(page, peer, list) {
  return page.page.evaluate(async ({ peer, list }) => {
    const conversation = await window.chat.direct(peer)
    window.kept.sent ??= []
    for (const text of list) {
      window.kept.sent.push(window.chat.send(conversation, { text }, { key: `k-${text}` }).then((/** @type {any} */ message) => message.seq))
    }
  }, { peer, list })
}
