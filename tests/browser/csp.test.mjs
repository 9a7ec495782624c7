// @ts-check
/** The relay serves the demo under a strict Content-Security-Policy, and the demo lives with it. */

import assert from 'node:assert/strict'

import { Person } from './harness/demo.mjs'
import { Relay } from './harness/relay.mjs'
import { scenario } from './harness/scene.mjs'
import { until } from './harness/wait.mjs'

scenario('the demo needs nothing that its policy forbids', async (scene) => {
  const relay = await Relay.start(scene)
  const response = await fetch(`${relay.origin}/demo/`)
  const policy = response.headers.get('content-security-policy') ?? ''
  /** @type {Map<string, string[]>} */
  const directives = new Map(
    policy.split(';').map((directive) => {
      const [name = '', ...sources] = directive.trim().split(/\s+/)
      return [name, sources]
    }),
  )
  const sourcesOf = (/** @type {string} */ name) => directives.get(name) ?? directives.get('default-src') ?? ['*']
  assert.deepEqual(sourcesOf('script-src'), ["'self'", "'wasm-unsafe-eval'"])
  assert.deepEqual(sourcesOf('style-src'), ["'self'"])
  for (const name of ['default-src', 'object-src', 'base-uri', 'frame-ancestors', 'form-action']) {
    assert.ok(directives.has(name) || name === 'object-src', `${name} is named`)
    assert.ok(['none', 'self'].some((source) => sourcesOf(name).join() === `'${source}'`), `${name}: ${sourcesOf(name)}`)
  }
  assert.ok(!/unsafe-inline|'unsafe-eval'|\*|\bhttps?:(?!\/)|strict-dynamic/.test(policy), policy)
  assert.equal(response.headers.get('x-content-type-options'), 'nosniff')
  assert.ok(!/<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=/i.test(await response.text()), 'nothing is inline')

  // Every violation is an error of the console, which fails a scene.
  const alice = await Person.enter(scene, 'alice', relay.origin)
  const bob = await Person.enter(scene, 'bob', relay.origin)
  const conversation = await alice.startDirect('bob')
  await alice.type('https://example.com is only a link, and <img src=x onerror=alert(1)> only text')
  await until('bob lists it', () => bob.line(conversation).isVisible())
  await bob.openConversation(conversation)
  await until('bob sees it as it was written', () => bob.messageOf('https://example.com is only a link, and <img src=x onerror=alert(1)> only text'))
  await bob.page.getByTestId('new-group').click()
  await bob.page.keyboard.press('Escape')

  // The listener works: a violation on purpose is seen.
  const [violation] = await Promise.all([
    bob.page.waitForEvent('console', (message) => /CSP: script-src/.test(message.text())),
    (async () => {
      scene.expect(/Content Security Policy|CSP: script-src/)
      await bob.page.evaluate(() => {
        const script = document.createElement('script')
        script.textContent = 'window.inlined = true'
        document.body.append(script)
      })
    })(),
  ])
  assert.match(violation.text(), /inline/)
  assert.equal(await bob.page.evaluate(() => 'inlined' in window), false)
})
