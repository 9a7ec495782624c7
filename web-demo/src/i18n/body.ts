import type { Group, Message } from 'hongyan'
import { t } from './index.ts'

/** What a message says; of a kind that this page does not know, its own text or a placeholder. */
export function bodyText(body: Message['body']): string {
  if (typeof body.text === 'string' && body.text !== '') return body.text
  return 'kind' in body ? t.value.kindPlaceholder(String(body.kind)) : ''
}

/** What is said in place of a message, or in the list for it. Who took a member's message back is not known: she or the owner. */
export function messageText(message: Message, me: string, nameOf: (user: string) => string, group?: Group): string {
  if (message.recalled === undefined) return bodyText(message.body)
  if (message.from === me) return t.value.recalledOwn
  return group === undefined || group.owner === message.from ? t.value.recalledBy(nameOf(message.from)) : t.value.recalledOf(nameOf(message.from))
}
