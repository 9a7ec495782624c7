import type { Conversation } from 'hongyan'

/** Newest first; the id decides between equals so that the order never flickers. */
function precedes(a: Conversation, b: Conversation): boolean {
  return a.time !== b.time ? a.time > b.time : a.id < b.id
}

/** The conversation list with changed or new conversations at their places. What did not change keeps its identity. */
export function upsert(list: readonly Conversation[], changed: readonly Conversation[]): readonly Conversation[] {
  if (changed.length === 0) return list
  const latest = new Map(changed.map((conversation) => [conversation.id, conversation]))
  const moved = [...latest.values()].sort((a, b) => (precedes(a, b) ? -1 : 1))
  const merged: Conversation[] = []
  let next = 0
  for (const conversation of list) {
    if (latest.has(conversation.id)) continue
    for (let early = moved[next]; early && precedes(early, conversation); early = moved[++next]) merged.push(early)
    merged.push(conversation)
  }
  merged.push(...moved.slice(next))
  return merged
}

/** What the whole list has unread. */
export function unreadOf(list: readonly Conversation[]): number {
  return list.reduce((sum, conversation) => sum + conversation.unread, 0)
}
