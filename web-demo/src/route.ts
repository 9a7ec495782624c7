import { readonly, ref } from 'vue'

/** The open conversation lives in the address, so that reload, back and forward do what people expect. */

const PREFIX = '#/c/'

const current = ref(read())
/** Whom a direct conversation is with that nobody has written in yet: only then the list does not know it. */
const peer = ref(readPeer())
/** Whether "back" within the browser's history leads to the list of this page. */
let pushed = false

window.addEventListener('popstate', () => {
  current.value = read()
  peer.value = readPeer()
  if (current.value === undefined) pushed = false
})

export const openId = readonly(current)
export const openPeer = readonly(peer)

export function openConversation(id: string, withPeer?: string): void {
  if (current.value === id) return
  const address = PREFIX + encodeURIComponent(id)
  const state = withPeer === undefined ? null : { peer: withPeer }
  if (current.value === undefined) {
    window.history.pushState(state, '', address)
    pushed = true
  } else {
    window.history.replaceState(state, '', address)
  }
  peer.value = withPeer
  current.value = id
}

export function closeConversation(): void {
  if (current.value === undefined) return
  if (pushed) {
    window.history.back()
    return
  }
  window.history.replaceState(null, '', window.location.pathname + window.location.search)
  current.value = undefined
}

/** Forgets the open conversation without touching the address: the session has ended. */
export function resetRoute(): void {
  current.value = read()
  peer.value = readPeer()
  pushed = false
}

function read(): string | undefined {
  const { hash } = window.location
  if (!hash.startsWith(PREFIX)) return undefined
  try {
    return decodeURIComponent(hash.slice(PREFIX.length)) || undefined
  } catch {
    return undefined
  }
}

function readPeer(): string | undefined {
  const state: unknown = window.history.state
  const name = state instanceof Object && 'peer' in state ? state.peer : undefined
  return typeof name === 'string' ? name : undefined
}
