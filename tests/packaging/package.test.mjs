// @ts-check
/** The published package: what is in it, its types, its import, and that it runs in a browser however it is bundled. */

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { copyFile, cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, relative } from 'node:path'
import { after, before, describe, test } from 'node:test'

import ts from 'typescript'

import { root, sdk, target } from '../../scripts/lib/paths.mjs'
import { Project, launch, run, serve } from './harness.mjs'

/** @type {Project} */
let project

before(async () => {
  project = await Project.create()
})

after(() => project.remove())

/** @param {string} ending */
async function installedFiles(ending = '') {
  const entries = await readdir(project.installed, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile() && entry.name.endsWith(ending)).map((entry) => join(entry.parentPath ?? entry.path, entry.name))
}

describe('contents', () => {
  test('the tarball holds what is needed and nothing else', async () => {
    const files = (await installedFiles()).map((file) => relative(project.installed, file)).sort()
    const layer = files.filter((file) => /^[\w-]+\.(d\.ts|js)$/.test(file))
    assert.ok(layer.includes('index.js') && layer.includes('index.d.ts'))
    assert.deepEqual(
      files.filter((file) => !layer.includes(file)),
      ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'package.json', 'wasm/hongyan.d.ts', 'wasm/hongyan.js', 'wasm/hongyan_bg.wasm'],
    )
  })

  test('the manifest is fit to publish, and names only files that are there', async () => {
    const manifest = JSON.parse(await readFile(join(project.installed, 'package.json'), 'utf8'))
    assert.equal(manifest.name, 'hongyan')
    assert.match(manifest.version, /^\d+\.\d+\.\d+$/)
    assert.equal(manifest.license, 'MIT OR Apache-2.0')
    assert.equal(manifest.sideEffects, false)
    for (const absent of ['private', 'dependencies', 'devDependencies', 'scripts']) assert.ok(!(absent in manifest), absent)
    const workspace = JSON.parse(await readFile(join(sdk, 'package.json'), 'utf8'))
    assert.equal(manifest.version, workspace.version)
    /** @param {unknown} value @returns {string[]} */
    const targets = (value) => (typeof value === 'string' ? [value] : Object.values(value ?? {}).flatMap(targets))
    for (const file of [...targets(manifest.exports), manifest.main, manifest.types]) {
      assert.match(file, /^\.\//)
      assert.ok(existsSync(join(project.installed, file)), `${file} is exported but missing`)
    }
  })

  test('no path of the machine that built it is inside', async () => {
    const traces = [root, target, homedir(), '/.cargo/'].filter((path) => path.length > 1)
    for (const file of await installedFiles()) {
      const bytes = await readFile(file)
      for (const trace of traces) assert.ok(!bytes.includes(trace), `${relative(project.installed, file)} names ${trace}`)
    }
  })
})

describe('types', () => {
  for (const resolution of ['nodenext', 'bundler']) {
    test(`a strict application compiles with module resolution ${resolution}, libraries checked`, () => {
      const options = {
        target: ts.ScriptTarget.ES2022,
        lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'],
        module: resolution === 'bundler' ? ts.ModuleKind.ESNext : ts.ModuleKind.NodeNext,
        moduleResolution: resolution === 'bundler' ? ts.ModuleResolutionKind.Bundler : ts.ModuleResolutionKind.NodeNext,
        types: [],
        strict: true,
        exactOptionalPropertyTypes: true,
        noUncheckedIndexedAccess: true,
        skipLibCheck: false,
        noEmit: true,
      }
      const compiled = ts.createProgram([project.path('app.ts')], options)
      const host = { getCanonicalFileName: (/** @type {string} */ name) => name, getCurrentDirectory: () => project.folder, getNewLine: () => '\n' }
      assert.equal(ts.formatDiagnostics(ts.getPreEmitDiagnostics(compiled), host), '')
      const used = compiled.getSourceFiles().map((file) => file.fileName)
      assert.ok(used.some((name) => name.endsWith('hongyan/index.d.ts')), 'the package was found')
    })
  }

  test('no declaration says `any`', async () => {
    const declarations = await installedFiles('.d.ts')
    assert.ok(declarations.length >= 2)
    /** @type {string[]} */
    const found = []
    for (const name of declarations) {
      const file = ts.createSourceFile(name, await readFile(name, 'utf8'), ts.ScriptTarget.Latest, true)
      /** @param {ts.Node} node */
      const visit = (node) => {
        if (node.kind === ts.SyntaxKind.AnyKeyword) found.push(`${relative(project.installed, name)}: ${node.parent.getText()}`)
        ts.forEachChild(node, visit)
      }
      visit(file)
    }
    assert.deepEqual(found, [])
  })
})

describe('on a server', () => {
  test('importing does nothing: no request, no timer, no global, nothing of a page', async () => {
    await writeFile(
      project.path('import.mjs'),
      `
      const touched = []
      for (const name of ['window', 'document', 'navigator', 'location', 'indexedDB', 'localStorage', 'WebSocket', 'BroadcastChannel', 'fetch', 'setTimeout', 'setInterval', 'queueMicrotask', 'requestAnimationFrame']) {
        Object.defineProperty(globalThis, name, { configurable: true, get() { touched.push(name); return undefined } })
      }
      const compile = WebAssembly.compile, instantiate = WebAssembly.instantiate
      for (const name of ['compile', 'instantiate', 'compileStreaming', 'instantiateStreaming', 'Module', 'Instance']) {
        Object.defineProperty(WebAssembly, name, { get() { touched.push('WebAssembly.' + name); return undefined } })
      }
      const before = Reflect.ownKeys(globalThis).map(String)
      const exported = await import('hongyan')
      const globals = Reflect.ownKeys(globalThis).map(String).filter((name) => !before.includes(name))
      console.log(JSON.stringify({ touched, globals, exported: Object.keys(exported).sort(), connect: typeof exported.connect }))
      `,
    )
    const seen = JSON.parse(await run(process.execPath, ['import.mjs'], project.folder))
    assert.deepEqual(seen.touched, [])
    assert.deepEqual(seen.globals, [])
    assert.equal(seen.connect, 'function')
    assert.deepEqual(seen.exported, ['Chat', 'ChatError', 'Devices', 'Groups', 'Presences', 'Profiles', 'connect'])
  })

  test('connecting where there is no page rejects with a sentence, and lets the process end', async () => {
    await writeFile(
      project.path('connect.mjs'),
      `
      import { readFile } from 'node:fs/promises'
      import { ChatError, connect } from 'hongyan'
      const wasm = await readFile('node_modules/hongyan/wasm/hongyan_bg.wasm')
      const error = await connect({ user: 'alice', token: 'x', wasm }).then(() => undefined, (reason) => reason)
      console.log(JSON.stringify([error instanceof ChatError, error?.code, error?.message]))
      `,
    )
    const [isChatError, code, message] = JSON.parse(await run(process.execPath, ['connect.mjs'], project.folder))
    assert.ok(isChatError)
    assert.equal(code, 'bad-request')
    assert.match(message, /url/, 'it says what is missing: the relay’s address, which a page would have')
  })
})

describe('in Chromium, under a strict Content-Security-Policy', () => {
  /** @type {import('playwright-core').Browser} */
  let browser

  before(async () => {
    browser = await launch()
  })

  after(() => browser?.close())

  /**
   * Each way makes a folder that a web server can serve.
   * @type {Record<string, (folder: string) => Promise<void>>}
   */
  const ways = {
    async 'bundled by Vite'(folder) {
      const { build } = await import('vite')
      await build({
        root: project.folder,
        configFile: false,
        logLevel: 'error',
        build: { outDir: folder, assetsInlineLimit: 0, modulePreload: { polyfill: false } },
      })
    },
    async 'bundled by webpack'(folder) {
      const { default: webpack } = await import('webpack')
      const stats = await new Promise((resolve, reject) => {
        webpack(
          { mode: 'production', context: project.folder, entry: './page.js', output: { path: folder, filename: 'page.js' }, performance: false },
          (error, result) => (error ? reject(error) : resolve(result)),
        )
      })
      assert.ok(!stats.hasErrors() && !stats.hasWarnings(), stats.toString())
      await copyFile(project.path('index.html'), join(folder, 'index.html'))
    },
    async 'bundled by esbuild, the wasm file copied beside'(folder) {
      const esbuild = await import('esbuild')
      await esbuild.build({ absWorkingDir: project.folder, entryPoints: ['page.js'], bundle: true, format: 'esm', outdir: folder, logLevel: 'silent' })
      await copyFile(join(project.installed, 'wasm/hongyan_bg.wasm'), join(folder, 'hongyan_bg.wasm'))
      await copyFile(project.path('index.html'), join(folder, 'index.html'))
    },
    async 'as plain files, without a bundler'(folder) {
      await cp(project.installed, join(folder, 'hongyan'), { recursive: true })
      const page = await readFile(project.path('page.js'), 'utf8')
      await writeFile(join(folder, 'page.js'), page.replace("from 'hongyan'", "from './hongyan/index.js'"))
      await copyFile(project.path('index.html'), join(folder, 'index.html'))
    },
  }

  for (const [way, make] of Object.entries(ways)) {
    test(way, async () => {
      const folder = project.path('served', way.replaceAll(/\W+/g, '-'))
      await mkdir(folder, { recursive: true })
      await make(folder)
      const server = await serve(folder)
      const context = await browser.newContext()
      try {
        const page = await context.newPage()
        /** @type {string[]} */
        const complaints = []
        page.on('pageerror', (error) => complaints.push(String(error)))
        page.on('console', (message) => {
          // There is no relay: that the socket fails is right, and the only thing that may.
          if (message.type() === 'error' && !/WebSocket connection to 'ws:.*\/ws' failed/.test(message.text())) complaints.push(message.text())
        })
        const visit = async () => {
          await page.goto(`${server.origin}/`)
          await page.waitForFunction(() => 'seen' in window, undefined, { timeout: 15_000 })
          return page.evaluate(() => /** @type {any} */ (window).seen)
        }

        const first = await visit()
        assert.equal(first.failed, undefined)
        assert.equal(first.storage, 'indexeddb')
        assert.ok(['connecting', 'offline'].includes(first.status), first.status)
        assert.ok(first.device.length > 0)
        assert.ok(first.frozen)
        assert.deepEqual(first.event, { status: 'sending', text: '你好', from: 'alice', seq: 0 })
        assert.deepEqual([first.before, first.after], [[], ['你好']])
        assert.deepEqual(first.last, [['bob', 'sending', 0]])
        assert.deepEqual(first.closed, [true, 'closed', 'stop'])
        for (const result of first.misuse) assert.deepEqual(result, [true, 'bad-request', 'stop', 'string'])
        assert.ok(server.requests.includes('/ws'), 'it dialled the page’s own origin')
        assert.equal(server.requests.filter((path) => path.endsWith('.wasm')).length, 1, 'one module, loaded once')

        // The device and what waits to be sent survive.
        const second = await visit()
        assert.equal(second.device, first.device)
        assert.deepEqual(second.before, ['你好'])
        assert.deepEqual(second.after, ['你好', '你好'])
        assert.deepEqual(complaints, [])
      } finally {
        await context.close()
        await server.close()
      }
    })
  }
})
