import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Chat, Profile } from 'hongyan'
import { KNOWN_MAX, Profiles } from '../src/chat/profiles.ts'

/** What the class asks of a page and of a chat. */
function scene() {
  const known = new Map<string, Profile>()
  const asked: string[][] = []
  let tell: (profile: Profile) => void = () => undefined
  let due: (() => void) | undefined
  Object.assign(globalThis, {
    window: { setTimeout: (then: () => void) => ((due = then), 1), clearTimeout: () => undefined },
  })
  const chat = {
    on: (_: string, told: typeof tell) => ((tell = told), () => undefined),
    profiles: {
      get: (users: string[]) => {
        asked.push(users)
        return Promise.resolve(users.map((user) => known.get(user) ?? { user, version: 0 }))
      },
    },
  } as unknown as Chat
  const profiles = new Profiles(chat, (error) => assert.fail(String(error)))
  const settle = async () => {
    due?.()
    due = undefined
    await new Promise((resolve) => setImmediate(resolve))
  }
  const is = (user: string, version: number, name?: string) => {
    known.set(user, { user, version, ...(name === undefined ? {} : { name }) })
  }
  return { profiles, asked, settle, is, told: (profile: Profile) => tell(profile) }
}

test('a name that is told late is passed over, and after a gap the relay is right, also with an older one', async () => {
  const { profiles, settle, is, told } = scene()
  is('bob', 5, 'Bob')
  assert.equal(profiles.nameOf('bob'), 'bob')
  await settle()
  told({ user: 'bob', version: 4, name: 'Old' })
  assert.equal(profiles.nameOf('bob'), 'Bob')
  is('bob', 3, 'Bobby')
  profiles.again()
  assert.equal(profiles.nameOf('bob'), 'Bob', 'until it is known')
  await settle()
  assert.equal(profiles.nameOf('bob'), 'Bobby')
  is('bob', 0)
  profiles.again()
  profiles.nameOf('bob')
  await settle()
  assert.equal(profiles.nameOf('bob'), 'bob')
})

test('an answer to what was asked before a gap is not taken', async () => {
  const { profiles, settle, is, asked } = scene()
  is('bob', 5, 'Bob')
  profiles.nameOf('bob')
  const answered = settle()
  profiles.again()
  await answered
  is('bob', 3, 'Bobby')
  profiles.nameOf('bob')
  await settle()
  assert.deepEqual([profiles.nameOf('bob'), asked.length], ['Bobby', 2])
})

test('each is asked for once, and who had nothing to show again when a group has changed', async () => {
  const { profiles, settle, is, asked } = scene()
  is('bob', 1, 'Bob')
  for (let time = 0; time < 3; time++) {
    assert.deepEqual([profiles.ownNameOf('carol'), profiles.nameOf('carol')], [undefined, 'carol'])
    profiles.nameOf('bob')
    await settle()
  }
  assert.deepEqual(asked, [['carol', 'bob']])
  is('carol', 2, 'Carol')
  profiles.mayBeSeen()
  profiles.nameOf('carol')
  profiles.nameOf('bob')
  await settle()
  assert.deepEqual([asked[1], profiles.nameOf('carol')], [['carol'], 'Carol'])
})

test('what is kept is bounded', async () => {
  const { profiles, settle, is, asked } = scene()
  for (let n = 0; n < KNOWN_MAX + 10; n++) {
    is(`user${n}`, 1, `User ${n}`)
    profiles.nameOf(`user${n}`)
  }
  await settle()
  assert.equal(asked.flat().length, KNOWN_MAX + 10)
  assert.deepEqual([profiles.nameOf('user0'), profiles.nameOf(`user${KNOWN_MAX}`)], ['user0', `User ${KNOWN_MAX}`])
  await settle()
  assert.equal(profiles.nameOf('user0'), 'User 0', 'whoever is looked at is asked for again')
})
