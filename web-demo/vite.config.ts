import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vite'

// The relay serves the result at /demo/ under a Content-Security-Policy without 'unsafe-inline' and without
// data: scripts, so nothing is inlined: styles, scripts and the wasm are files.
export default defineConfig({
  base: '/demo/',
  plugins: [vue()],
  define: { __VUE_OPTIONS_API__: 'false' },
  optimizeDeps: { exclude: ['hongyan'] },
  build: {
    // The first versions that know 'wasm-unsafe-eval'.
    target: ['chrome97', 'firefox104', 'safari16'],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      '/dev': 'http://127.0.0.1:8787',
      '/ws': { target: 'ws://127.0.0.1:8787', ws: true },
      '/bye': 'http://127.0.0.1:8787',
    },
  },
})
