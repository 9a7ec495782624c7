/** A piece of a message: plain text, or an address that may be opened. */
export interface Piece {
  readonly text: string
  readonly href?: string
}

const ADDRESS = /https?:\/\/[^\s<>"'，。；！？、（）《》「」【】]+/gu
const TRAILING = /[.,;:!?)\]}]+$/u

/** Splits a text at its web addresses. Only http and https are ever linked. */
export function piecesOf(text: string): readonly Piece[] {
  const pieces: Piece[] = []
  let end = 0
  for (const match of text.matchAll(ADDRESS)) {
    const href = match[0].replace(TRAILING, '')
    if (match.index > end) pieces.push({ text: text.slice(end, match.index) })
    pieces.push({ text: href, href })
    end = match.index + href.length
  }
  if (end < text.length) pieces.push({ text: text.slice(end) })
  return pieces
}

/** One or two characters that stand for a name: the first of a Chinese one, the initials of others. */
export function initialsOf(name: string): string {
  const words = name.trim().split(/[\s._-]+/u).filter((word) => word !== '')
  const first = [...(words[0] ?? '?')][0] ?? '?'
  if (/\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Script=Hangul}/u.test(first)) return first
  const second = words.length > 1 ? ([...(words.at(-1) ?? '')][0] ?? '') : ''
  return (first + second).toUpperCase()
}

/** How many hues the style sheet has for avatars and names. */
const HUES = 8

/** A user or a group has the same hue everywhere, also under another name. */
export function hueOf(id: string): number {
  let hash = 0
  for (const character of id) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) >>> 0
  return hash % HUES
}

/** The names in a line that a person typed, each once. Chinese punctuation separates too. */
export function namesIn(line: string): string[] {
  return [...new Set(line.split(/[\s,;，；、]+/u).filter((name) => name !== ''))]
}
