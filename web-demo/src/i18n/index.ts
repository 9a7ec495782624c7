import { computed } from 'vue'
import { language } from '../preferences.ts'
import { presenceText, type Seen } from '../presence.ts'
import { en } from './en.ts'
import { zh } from './zh.ts'

export type Dictionary = typeof en
export type Language = 'en' | 'zh'

const dictionaries: Record<Language, Dictionary> = { en, zh }
const locales: Record<Language, string> = { en: 'en', zh: 'zh-CN' }

/** The strings of the language that is chosen now. */
export const t = computed(() => dictionaries[language.value])

const formats = computed(() => {
  const locale = locales[language.value]
  return {
    time: new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }),
    full: new Intl.DateTimeFormat(locale, { dateStyle: 'full', timeStyle: 'short' }),
    weekday: new Intl.DateTimeFormat(locale, { weekday: 'short' }),
    date: new Intl.DateTimeFormat(locale, { month: 'short', day: 'numeric' }),
    year: new Intl.DateTimeFormat(locale, { year: 'numeric', month: 'short', day: 'numeric' }),
    day: new Intl.DateTimeFormat(locale, { weekday: 'long', month: 'long', day: 'numeric' }),
    dayOfYear: new Intl.DateTimeFormat(locale, { weekday: 'long', year: 'numeric', month: 'long', day: 'numeric' }),
    relative: new Intl.RelativeTimeFormat(locale, { numeric: 'auto' }),
    list: new Intl.ListFormat(locale, { type: 'conjunction' }),
  }
})

const DAY_MS = 86_400_000

/** Whole calendar days from `time` to now, in the reader's time zone. */
function daysAgo(time: number, now: number): number {
  const midnight = (at: number): number => new Date(at).setHours(0, 0, 0, 0)
  return Math.round((midnight(now) - midnight(time)) / DAY_MS)
}

export function clock(time: number): string {
  return formats.value.time.format(time)
}

export function fullTime(time: number): string {
  return formats.value.full.format(time)
}

/** The time in the conversation list: as short as the distance allows. */
export function shortTime(time: number, now: number): string {
  const days = daysAgo(time, now)
  if (days <= 0) return clock(time)
  if (days === 1) return formats.value.relative.format(-1, 'day')
  if (days < 7) return formats.value.weekday.format(time)
  return sameYear(time, now) ? formats.value.date.format(time) : formats.value.year.format(time)
}

/** A moment in a sentence: the time of day, and before today the day. */
function moment(time: number): string {
  const now = Date.now()
  return daysAgo(time, now) <= 0 ? clock(time) : `${shortTime(time, now)} ${clock(time)}`
}

/** How somebody or some device is, in the chosen language. */
export function presenceWords(seen: Seen): string {
  return presenceText(t.value.presence, seen, moment)
}

/** The heading of a day in the message list. */
export function dayName(time: number, now: number): string {
  const days = daysAgo(time, now)
  if (days >= 0 && days <= 1) return capital(formats.value.relative.format(-days, 'day'))
  return sameYear(time, now) ? formats.value.day.format(time) : formats.value.dayOfYear.format(time)
}

export function names(users: readonly string[]): string {
  return formats.value.list.format(users)
}

/** What a person is told about a reason: in the chosen language where the code is known. */
export function reasonText(reason: { code: string; message: string }): string {
  const codes: Partial<Record<string, string>> = t.value.codes
  return codes[reason.code] ?? reason.message
}

function sameYear(a: number, b: number): boolean {
  return new Date(a).getFullYear() === new Date(b).getFullYear()
}

function capital(text: string): string {
  return text.charAt(0).toLocaleUpperCase() + text.slice(1)
}
