// What pages of these tests have on their window.

export {}

declare global {
  interface Window {
    /** The demo gives it with `?debug`. */
    hongyanDemo?: { chat: import('hongyan').Chat }
    /** A page of sdk.mjs: the package, and what the test keeps there. */
    hongyan: typeof import('hongyan')
    chat: import('hongyan').Chat
    kept: Record<string, any>
    /** Tells the test, through every reload, that a send was confirmed. */
    confirmed(conversation: string, key: string, seq: number): Promise<void>
  }
}
