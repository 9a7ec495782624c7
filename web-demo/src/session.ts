import { connect, type Chat } from 'hongyan'
import { keep, recall } from './memory.ts'

/** Why nobody could sign in, in the words that the sign-in page knows. */
export type SignInProblem = 'relay-unreachable' | 'relay-not-in-dev-mode'

export class SignInError extends Error {
  constructor(readonly problem: SignInProblem) {
    super(
      problem === 'relay-unreachable'
        ? 'The relay did not answer the request for a token.'
        : 'The relay is not in development mode, so it gives out no tokens.',
    )
    this.name = 'SignInError'
  }
}

/** A relay that accepts a connection but says nothing is as good as down. */
const TOKEN_TIMEOUT_MS = 8_000

async function fetchToken(user: string): Promise<string> {
  const abort = new AbortController()
  const timer = window.setTimeout(() => abort.abort(), TOKEN_TIMEOUT_MS)
  try {
    const response = await fetch(`/dev/token?user=${encodeURIComponent(user)}`, {
      signal: abort.signal,
      cache: 'no-store',
    })
    // A proxy answers 502 to 504 for a relay that is down.
    if (response.status >= 500) throw new SignInError('relay-unreachable')
    if (!response.ok) throw new SignInError('relay-not-in-dev-mode')
    return (await response.text()).trim()
  } catch (error) {
    throw error instanceof SignInError ? error : new SignInError('relay-unreachable')
  } finally {
    window.clearTimeout(timer)
  }
}

/**
 * Opens the chat of a user. Who was here before in this browser has a cache and gets in at once, also while the
 * relay is down; for a new name the first token is fetched before, so that a problem is told on the sign-in page.
 */
export async function signIn(user: string): Promise<Chat> {
  let first = knows(user) ? undefined : await fetchToken(user)
  const chat = await connect({
    user,
    token: () => {
      const token = first ?? fetchToken(user)
      first = undefined
      return token
    },
  })
  remember(user)
  return chat
}

/** Ends the device's session and empties its cache. */
export async function signOut(chat: Chat): Promise<void> {
  forget(chat.user)
  try {
    await chat.logout()
  } catch {
    // Offline or stopped: what matters here is that this page lets go.
    await chat.close().catch(() => undefined)
  }
}

/** The name to sign in with at once: from the address, else the one this tab had before. */
export function nameAtStart(): string | undefined {
  const name = new URLSearchParams(window.location.search).get('user')?.trim() ?? recall('session', 'user')
  return name === '' ? undefined : name
}

function knownNames(): readonly string[] {
  try {
    const names: unknown = JSON.parse(recall('local', 'known') ?? '[]')
    return Array.isArray(names) ? names.filter((name): name is string => typeof name === 'string') : []
  } catch {
    return []
  }
}

function knows(user: string): boolean {
  return knownNames().includes(user)
}

/** As many names as this page remembers; an older one only loses its entry without a relay. */
const KNOWN_NAMES_MAX = 50

function remember(user: string): void {
  keep('session', 'user', user)
  const others = knownNames().filter((name) => name !== user)
  keep('local', 'known', JSON.stringify([user, ...others].slice(0, KNOWN_NAMES_MAX)))
}

function forget(user: string): void {
  keep('session', 'user', undefined)
  keep('local', 'known', JSON.stringify(knownNames().filter((name) => name !== user)))
  const address = new URL(window.location.href)
  address.searchParams.delete('user')
  address.hash = ''
  window.history.replaceState(null, '', address)
}
