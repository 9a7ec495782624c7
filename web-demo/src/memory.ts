/** Small things kept by the browser. Where it refuses (private windows, blocked storage), nothing is kept. */

type Place = 'local' | 'session'

function storageOf(place: Place): Storage {
  return place === 'local' ? window.localStorage : window.sessionStorage
}

export function recall(place: Place, name: string): string | undefined {
  try {
    return storageOf(place).getItem(`hongyan-demo.${name}`) ?? undefined
  } catch {
    return undefined
  }
}

export function keep(place: Place, name: string, value: string | undefined): void {
  try {
    if (value === undefined) storageOf(place).removeItem(`hongyan-demo.${name}`)
    else storageOf(place).setItem(`hongyan-demo.${name}`, value)
  } catch {
    // Kept for this page only, then.
  }
}
