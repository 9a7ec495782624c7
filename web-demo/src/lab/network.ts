/**
 * A network that can be cut from within the page, as a cable that is pulled: nothing passes either way and nobody is
 * told. What was under way is held and goes on late when the network heals, as TCP would repeat it; what connects
 * meanwhile waits. It stands between the page and the browser's own WebSocket, fetch and sendBeacon.
 */

/** What it stands before: `window`, or a stand-in of a test. */
export interface Host {
  WebSocket: typeof WebSocket
  fetch: typeof fetch
  navigator: { sendBeacon?: Navigator['sendBeacon'] }
}

export interface Network {
  readonly isCut: boolean
  cut(): void
  heal(): void
}

/** What one socket holds while the network is cut; with more the connection breaks when it heals. */
export const HELD_BYTES_MAX = 1_048_576
const ABNORMAL_CLOSE = 1006

/** Puts the network between the host's page and its browser. Call it before anything connects. */
export function install(host: Host): Network {
  const Native = host.WebSocket
  const nativeFetch = host.fetch.bind(host)
  const nativeBeacon = host.navigator.sendBeacon?.bind(host.navigator)
  const sockets = new Set<CuttableSocket>()
  let cut: { readonly over: Promise<void>; readonly end: () => void } | undefined

  class CuttableSocket extends EventTarget {
    static readonly CONNECTING = 0
    static readonly OPEN = 1
    static readonly CLOSING = 2
    static readonly CLOSED = 3
    readyState = CuttableSocket.CONNECTING
    private binary: BinaryType = 'blob'
    private native: WebSocket | undefined
    private held: (() => void)[] = []
    private heldBytes = 0

    constructor(
      readonly url: string,
      private readonly protocols?: string | string[],
    ) {
      super()
      sockets.add(this)
      if (cut === undefined) this.dial()
    }

    get binaryType(): BinaryType {
      return this.binary
    }

    set binaryType(type: BinaryType) {
      this.binary = type
      if (this.native) this.native.binaryType = type
    }

    get bufferedAmount(): number {
      return (this.native?.bufferedAmount ?? 0) + this.heldBytes
    }

    get protocol(): string {
      return this.native?.protocol ?? ''
    }

    send(data: string | ArrayBufferView<ArrayBuffer> | ArrayBuffer): void {
      // What is given may be a view of memory that changes before the network heals.
      const kept = cut === undefined ? data : copied(data)
      this.pass(sizeOf(kept), () => {
        // The other side may have closed meanwhile.
        if (this.native?.readyState === CuttableSocket.OPEN) this.native.send(kept)
      })
    }

    close(code?: number, reason?: string): void {
      if (this.readyState >= CuttableSocket.CLOSING) return
      this.readyState = CuttableSocket.CLOSING
      if (this.native) this.pass(0, () => this.native?.close(code, reason))
      else this.closed(new CloseEvent('close', { code: ABNORMAL_CLOSE }))
    }

    /** The network is whole again. */
    healed(): void {
      const late = this.held
      const isBroken = this.heldBytes > HELD_BYTES_MAX
      this.held = []
      this.heldBytes = 0
      if (!this.native) this.dial()
      else if (isBroken) {
        this.native.close()
        this.closed(new CloseEvent('close', { code: ABNORMAL_CLOSE }))
      } else for (const act of late) act()
    }

    private dial(): void {
      const native = new Native(this.url, this.protocols)
      native.binaryType = this.binary
      this.native = native
      native.addEventListener('open', () =>
        this.pass(0, () => {
          if (this.readyState === CuttableSocket.CONNECTING) this.readyState = CuttableSocket.OPEN
          this.dispatchEvent(new Event('open'))
        }),
      )
      native.addEventListener('message', ({ data }: MessageEvent) =>
        this.pass(sizeOf(data), () => this.dispatchEvent(new MessageEvent('message', { data }))),
      )
      native.addEventListener('error', () => this.pass(0, () => this.dispatchEvent(new Event('error'))))
      native.addEventListener('close', ({ code, reason, wasClean }) =>
        this.pass(0, () => this.closed(new CloseEvent('close', { code, reason, wasClean }))),
      )
    }

    /** Does it now, or when the network is whole again. */
    private pass(bytes: number, act: () => void): void {
      if (cut === undefined) {
        act()
        return
      }
      this.heldBytes += bytes
      if (this.heldBytes <= HELD_BYTES_MAX) this.held.push(act)
      else this.held = []
    }

    private closed(event: CloseEvent): void {
      sockets.delete(this)
      if (this.readyState === CuttableSocket.CLOSED) return
      this.readyState = CuttableSocket.CLOSED
      this.dispatchEvent(event)
    }
  }

  // The page's only user of sockets is the SDK; it uses nothing that is missing here.
  host.WebSocket = CuttableSocket as unknown as typeof WebSocket
  host.fetch = async (input, init) => {
    if (cut !== undefined) await abortable(cut.over, init?.signal)
    return nativeFetch(input, init)
  }
  if (nativeBeacon) {
    // A beacon that is lost was accepted all the same.
    host.navigator.sendBeacon = (url, data) => cut !== undefined || nativeBeacon(url, data)
  }

  return {
    get isCut() {
      return cut !== undefined
    },
    cut() {
      if (cut !== undefined) return
      let end = (): void => undefined
      const over = new Promise<void>((resolve) => (end = resolve))
      cut = { over, end }
    },
    heal() {
      if (cut === undefined) return
      const { end } = cut
      cut = undefined
      end()
      for (const socket of [...sockets]) socket.healed()
    },
  }
}

/** Waits, unless the one who asked gives up. */
function abortable(waiting: Promise<void>, signal: AbortSignal | null | undefined): Promise<void> {
  if (!signal) return waiting
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    void waiting.then(() => {
      signal.removeEventListener('abort', abort)
      resolve()
    })
  })
}

function copied(data: string | ArrayBufferView<ArrayBuffer> | ArrayBuffer): string | ArrayBuffer {
  if (typeof data === 'string') return data
  if (data instanceof ArrayBuffer) return data.slice(0)
  return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength)
}

function sizeOf(data: unknown): number {
  if (typeof data === 'string') return data.length
  return data instanceof ArrayBuffer ? data.byteLength : 0
}
