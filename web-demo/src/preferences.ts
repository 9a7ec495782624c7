import { computed, readonly, ref, watchEffect } from 'vue'
import { keep, recall } from './memory.ts'

type Theme = 'light' | 'dark'

const system = window.matchMedia('(prefers-color-scheme: dark)')
const systemDark = ref(system.matches)
system.addEventListener('change', (event) => (systemDark.value = event.matches))

const chosenTheme = ref<Theme | undefined>(themeFrom(recall('local', 'theme')))
const chosenLanguage = ref<'en' | 'zh'>(languageFrom(recall('local', 'language') ?? navigator.language))

/** What is on screen: the switch's choice, else the system's. */
export const theme = computed<Theme>(() => chosenTheme.value ?? (systemDark.value ? 'dark' : 'light'))
export const language = readonly(chosenLanguage)

export function switchTheme(): void {
  const next: Theme = theme.value === 'dark' ? 'light' : 'dark'
  chosenTheme.value = next
  keep('local', 'theme', next)
}

export function switchLanguage(): void {
  chosenLanguage.value = chosenLanguage.value === 'en' ? 'zh' : 'en'
  keep('local', 'language', chosenLanguage.value)
}

/** Puts the choices where the style sheet and screen readers find them. */
export function applyPreferences(): void {
  watchEffect(() => {
    document.documentElement.dataset['theme'] = theme.value
    document.documentElement.lang = language.value === 'zh' ? 'zh-CN' : 'en'
  })
}

function themeFrom(text: string | undefined): Theme | undefined {
  return text === 'dark' || text === 'light' ? text : undefined
}

function languageFrom(text: string): 'en' | 'zh' {
  return text.toLowerCase().startsWith('zh') ? 'zh' : 'en'
}
