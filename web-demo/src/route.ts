import { readonly, ref } from 'vue'

/** The open conversation lives in the address, so that reload, back and forward do what people expect. */

const PREFIX = '#/c/'

const current = ref(read())
/** Whether "back" within the browser's history leads to the list of this page. */
let pushed = false

window.addEventListener('popstate', () => {
  current.value = read()
  if (current.value === undefined) pushed = false
})

export const openId = readonly(current)

export function openConversation(id: string): void {
  if (current.value === id) return
  const address = PREFIX + encodeURIComponent(id)
  if (current.value === undefined) {
    window.history.pushState(null, '', address)
    pushed = true
  } else {
    window.history.replaceState(null, '', address)
  }
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
