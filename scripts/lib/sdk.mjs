// @ts-check
/**
 * The npm package: the wasm module, the glue, the TypeScript layer, their sizes.
 *
 * wasm features: what Rust turns on by default without reference types (`.cargo/config.toml`), so the module loads
 * in Chromium 86 and iOS 15. The standard library is precompiled with reference types on; nothing of it is left in
 * the finished module, and `wasm-opt` proves it: it validates with exactly {@link WASM_FEATURES}.
 */

import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, join } from 'node:path'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'

import { nodeModule, pkg, root, sdk, target, work } from './paths.mjs'
import { run } from './run.mjs'
import { whenChanged } from './stamps.mjs'
import { Failure, say, step, table } from './terminal.mjs'

/**
 * What wasm and JavaScript may weigh together, in bytes of brotli. This stage has 116 KB, of which
 * the tabs and presence are 25, changes of messages 5, profiles 3.5, and catching up fast 1.5.
 */
export const BUDGET_BROTLI_BYTES = 116 * 1024

/** In Chromium since 85 and Safari since 15 or earlier: all that the module may use. */
const WASM_FEATURES = ['mutable-globals', 'sign-ext', 'bulk-memory', 'bulk-memory-opt', 'nontrapping-float-to-int', 'multivalue']

/**
 * What makes it small; more passes than these gain nothing.
 *
 * `--low-memory-unused` lets a constant below 1,024 that is added to a pointer become the offset of the access. That differs
 * only where the sum wraps around to an address below 1,024, and nothing of this module is there: Rust's linker puts the
 * stack first, from 1 MB downwards, and data and heap above it. Whoever changes the linker's layout takes it out.
 */
const PASSES = ['--low-memory-unused', '--merge-similar-functions', '--gufa-optimizing', '-Oz', '--dae-optimizing', '-Oz']

/** The oldest browsers that the JavaScript is written for. */
const BROWSERS = ['chrome86', 'safari15']

const TARGET = 'wasm32-unknown-unknown'

/** The messages of panics name source files: they must not tell where the machine that built them keeps its own. */
const WITHOUT_PATHS = [
  '--config',
  `target.${TARGET}.rustflags=${JSON.stringify(
    [
      [root, '/hongyan/'],
      [target, '/hongyan/target'],
      [process.env.CARGO_HOME ?? join(homedir(), '.cargo'), '/cargo'],
    ].map(([from, to]) => `--remap-path-prefix=${from}=${to}`),
  )}`,
]

const compiled = join(target, TARGET, 'wasm', 'hongyan.wasm')
const glue = join(work, 'glue')
const optimised = join(work, 'hongyan_bg.wasm')

/**
 * Builds `sdk-wasm/pkg/`.
 * @param {object} options
 * @param {boolean} options.sizes print the sizes, and fail above the budget
 */
export async function buildSdk({ sizes }) {
  await step('SDK: Rust to WebAssembly', (progress) =>
    cargoWhenChanged(['build', ...WITHOUT_PATHS, '-p', 'hongyan-sdk-wasm', '--target', TARGET, '--profile', 'wasm'], compiled, progress),
  )
  await step('SDK: glue by wasm-bindgen', (progress) =>
    whenChanged({
      name: 'glue',
      inputs: [compiled, join(sdk, 'bindgen'), join(root, 'Cargo.lock')],
      outputs: [glue],
      async make() {
        rmSync(glue, { recursive: true, force: true })
        await run('cargo', ['run', '-p', 'hongyan-bindgen', '--', compiled, glue], { progress })
      },
    }),
  )
  await step('SDK: wasm-opt -Oz', () =>
    whenChanged({
      name: 'wasm-opt',
      inputs: [join(glue, 'hongyan_bg.wasm'), nodeModule('binaryen/package.json')],
      extra: [...WASM_FEATURES, ...PASSES],
      outputs: [optimised],
      async make() {
        const features = ['--mvp-features', ...WASM_FEATURES.map((name) => `--enable-${name}`)]
        const args = [join(glue, 'hongyan_bg.wasm'), '-o', optimised, ...features, ...PASSES, '--strip-debug', '--strip-producers', '--strip-target-features']
        await run(process.execPath, [nodeModule('binaryen/bin/wasm-opt'), ...args])
      },
    }),
  )
  await step('SDK: TypeScript and package', () =>
    whenChanged({
      name: 'package',
      inputs: [optimised, glue, ...['js', 'package.json', 'tsconfig.json', 'README.md'].map((name) => join(sdk, name)), ...texts(), join(root, 'package-lock.json'), join(root, 'scripts', 'lib', 'sdk.mjs')],
      outputs: [pkg],
      make: makePackage,
    }),
  )
  if (sizes) reportSizes()
}

/**
 * Runs cargo, which knows best whether something changed: asking it costs less than hashing.
 * @param {string[]} args
 * @param {string} output the file that cargo makes
 * @param {import('./terminal.mjs').Progress} progress
 * @returns {Promise<'unchanged' | 'made'>}
 */
export async function cargoWhenChanged(args, output, progress) {
  const before = modified(output)
  await run('cargo', args, { progress })
  return modified(output) === before ? 'unchanged' : 'made'
}

/** @param {string} path */
function modified(path) {
  return existsSync(path) ? statSync(path).mtimeMs : 0
}

/** The licences that go into the package. */
function texts() {
  return ['LICENSE-MIT', 'LICENSE-APACHE'].map((name) => join(root, name))
}

/** Lays out `pkg/`: wasm and glue, the compiled TypeScript layer, the manifest, the texts. */
async function makePackage() {
  rmSync(pkg, { recursive: true, force: true })
  mkdirSync(join(pkg, 'wasm'), { recursive: true })
  cpSync(optimised, join(pkg, 'wasm', 'hongyan_bg.wasm'))
  cpSync(join(glue, 'hongyan.d.ts'), join(pkg, 'wasm', 'hongyan.d.ts'))

  // Minified here, so that what is measured is what is shipped. Bundlers still find the wasm file's URL in it.
  const esbuild = await import('esbuild')
  const minified = await esbuild.transform(readFileSync(join(glue, 'hongyan.js'), 'utf8'), {
    format: 'esm',
    legalComments: 'none',
    minify: true,
    target: BROWSERS,
  })
  writeFileSync(join(pkg, 'wasm', 'hongyan.js'), minified.code)

  await run(process.execPath, [nodeModule('typescript/bin/tsc'), '--project', sdk, '--pretty', 'false'])
  writeFileSync(join(pkg, 'package.json'), `${JSON.stringify(publishedManifest(), null, 2)}\n`)
  for (const text of [...texts(), join(sdk, 'README.md')]) {
    if (existsSync(text)) cpSync(text, join(pkg, basename(text)))
  }
}

/**
 * The manifest of the published package: the workspace's own, seen from inside `pkg/`. The workspace's is private,
 * so that only this folder can be published.
 */
function publishedManifest() {
  const text = readFileSync(join(sdk, 'package.json'), 'utf8').replaceAll('"./pkg/', '"./')
  const { private: _, ...manifest } = JSON.parse(text)
  return manifest
}

/** The weight of one file of the package. */
export function sizesOfPackage() {
  const wasm = weigh('wasm', ['wasm/hongyan_bg.wasm'])
  const glueSize = weigh('glue', ['wasm/hongyan.js'])
  const layer = weigh('TypeScript layer', readdirSync(pkg).filter((name) => name.endsWith('.js')))
  const sum = { name: 'together', raw: 0, gzip: 0, brotli: 0 }
  for (const part of [wasm, glueSize, layer]) {
    sum.raw += part.raw
    sum.gzip += part.gzip
    sum.brotli += part.brotli
  }
  return { parts: [wasm, glueSize, layer], sum }
}

/**
 * @param {string} name
 * @param {string[]} files of the package
 */
function weigh(name, files) {
  const bytes = Buffer.concat(files.map((file) => readFileSync(join(pkg, file))))
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length }
  return { name, raw: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length, brotli: brotliCompressSync(bytes, { params }).length }
}

/** Prints what a page downloads, and fails above the budget. */
function reportSizes() {
  const { parts, sum } = sizesOfPackage()
  /** @param {number} bytes */
  const kilobytes = (bytes) => `${(bytes / 1024).toFixed(1)} KB`
  say('')
  table(['', 'raw', 'gzip', 'brotli'], [...parts, sum].map((part) => [part.name, kilobytes(part.raw), kilobytes(part.gzip), kilobytes(part.brotli)]))
  say('')
  const budget = kilobytes(BUDGET_BROTLI_BYTES)
  if (sum.brotli > BUDGET_BROTLI_BYTES) {
    throw new Failure(`The SDK weighs ${kilobytes(sum.brotli)} as brotli; its budget is ${budget} (scripts/lib/sdk.mjs).`)
  }
}
