import type { Typing } from 'hongyan'

/** Who writes, by conversation; the one who began first is first. The SDK bounds it and tells every end. */
export type Typings = ReadonlyMap<string, readonly string[]>

export function withTyping(typings: Typings, { conversation, user, typing }: Typing): Typings {
  const others = (typings.get(conversation) ?? []).filter((other) => other !== user)
  const users = typing ? [...others, user] : others
  const next = new Map(typings)
  if (users.length > 0) next.set(conversation, users)
  else next.delete(conversation)
  return next
}
