import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hueOf, initialsOf, namesIn, piecesOf } from '../src/text.ts'

test('addresses are found, and nothing is lost around them', () => {
  for (const [text, hrefs] of [
    ['no address', []],
    ['see https://a.example/x?y=1, and http://b.example.', ['https://a.example/x?y=1', 'http://b.example']],
    ['看https://a.example/路径。好', ['https://a.example/路径']],
    ['javascript:alert(1) data:text/html,x', []],
    ['', []],
  ] as const) {
    const pieces = piecesOf(text)
    assert.equal(pieces.map((piece) => piece.text).join(''), text)
    assert.deepEqual(pieces.flatMap((piece) => piece.href ?? []), hrefs)
  }
})

test('initials', () => {
  for (const [name, initials] of [['alice', 'A'], ['dave.miller', 'DM'], ['李雁', '李'], ['', '?'], ['😀x', '😀'], ['a b c', 'AC']]) {
    assert.equal(initialsOf(name as string), initials)
  }
})

test('a name has one hue within the palette', () => {
  for (const name of ['alice', '李雁', '']) assert.ok(hueOf(name) >= 0 && hueOf(name) < 8 && hueOf(name) === hueOf(name))
})

test('names are split at spaces and at both kinds of punctuation, each once', () => {
  assert.deepEqual(namesIn(' bob, carol;bob  小红，小刚、小明 '), ['bob', 'carol', '小红', '小刚', '小明'])
})
