import type { Message } from 'hongyan'
import { t } from './index.ts'

/** What a message says; of a kind that this page does not know, its own text or a placeholder. */
export function bodyText(body: Message['body']): string {
  if (typeof body.text === 'string' && body.text !== '') return body.text
  return 'kind' in body ? t.value.kindPlaceholder(String(body.kind)) : ''
}
