// Real wechaty gateways with the mock puppet, driven by lines of JSON: a command in, its answer out.
// {"do": "say", "far": "a", ...} -> {"ok": ...} or {"error": "..."}. One process holds any number of gateways.
// Everything but the puppet's far side (people, phones, Tencent) is the published code.
import net from 'node:net'
import readline from 'node:readline'

const out = process.stdout.write.bind(process.stdout)
for (const name of ['log', 'info', 'warn', 'error', 'debug']) console[name] = () => {}

const { PuppetMock, mock } = await import('wechaty-puppet-mock')
const { PuppetServer } = await import('wechaty-puppet-service')

const RECALLED = 13
const TEXT = 7
const fars = new Map()

class Puppet extends PuppetMock {
  sent = []
  accepted = []
  friendships = new Map()
  loginAtStart = true
  tellsIds = false
  refusing = 0
  slow = 0
  silentAbout = ''
  nameless = false

  async onStart () {
    await super.onStart()
    setImmediate(() => this.loginAtStart && !this.isLoggedIn && this.login('wxid_bot'))
  }

  async onStop () {
    await super.onStop()
    await this.logout()
  }

  async messageSendText (conversation, text, mentions) {
    if (this.refusing > 0 && --this.refusing === 0) throw new Error('the phone is gone')
    this.sent.push({ conversation, text, mentions: mentions ?? [] })
    await super.messageSendText(conversation, text)
    const id = [...this.mocker.cacheMessagePayload.keys()].at(-1)
    if (this.slow) await new Promise((resolve) => setTimeout(resolve, this.slow))
    return this.tellsIds ? id : undefined
  }

  async contactRawPayload (id) {
    if (this.nameless) throw new Error('not synchronised yet')
    return super.contactRawPayload(id)
  }

  async messageRawPayload (id) {
    if (id === this.silentAbout) await new Promise(() => {})
    return super.messageRawPayload(id)
  }

  async roomMemberRawPayload (room, id) {
    const payload = await super.roomMemberRawPayload(room, id)
    return { ...payload, roomAlias: this.aliases?.[id] ?? '' }
  }

  async friendshipRawPayload (id) { return this.friendships.get(id) }
  async friendshipAccept (id) { this.accepted.push(id) }
}

const freePort = () => new Promise((resolve) => {
  const probe = net.createServer()
  probe.listen(0, '127.0.0.1', () => {
    const { port } = probe.address()
    probe.close(() => resolve(port))
  })
})

const serve = async (far) => {
  far.server = new PuppetServer({
    endpoint: `127.0.0.1:${far.port}`, puppet: far.puppet, token: far.token, tls: { disable: true },
  })
  await far.server.start()
}

let made = 0

const create = (far, { id, text = '', type = TEXT, person, room, to = 'wxid_bot', mentions = [] }) => {
  const payload = { id: id ?? `m-${++made}`, talkerId: person, text, timestamp: Date.now(), type }
  if (room) Object.assign(payload, { roomId: room, mentionIdList: mentions })
  else payload.listenerId = to
  far.puppet.mocker.MessageMock.create(payload)
  far.puppet.emit('message', { messageId: payload.id })
  return payload.id
}

const commands = {
  async open ({ far: name, token, people, rooms, official = [] }) {
    const mocker = new mock.Mocker()
    const far = { port: await freePort(), token, puppet: new Puppet({ mocker }) }
    for (const [id, shown] of Object.entries(people)) {
      mocker.createContact({ id, name: shown, type: official.includes(id) ? 2 : 1 })
    }
    for (const [id, members] of Object.entries(rooms)) mocker.createRoom({ id, memberIdList: members })
    fars.set(name, far)
    await serve(far)
    return far.port
  },
  // Does a client listen, with the account logged in?
  ready: ({ far }) => far.puppet.isLoggedIn && far.puppet.listenerCount('dong') > 0,
  listened: ({ far }) => far.puppet.listenerCount('dong') > 0,
  message: ({ far, payload }) => create(far, payload),
  again: ({ far, id }) => { far.puppet.emit('message', { messageId: id }) },
  recall: ({ far, message, person, room }) => create(far, { type: RECALLED, text: message, person, room }),
  // What the bot's account wrote, by whichever way, oldest first.
  written: ({ far, chat }) => [...far.puppet.mocker.cacheMessagePayload.values()]
    .filter((one) => one.talkerId === 'wxid_bot' && (one.roomId || one.listenerId) === chat)
    .map(({ id, text }) => ({ id, text })),
  sent: ({ far }) => far.puppet.sent,
  join: ({ far, room, people, by }) => {
    const contact = (id) => far.puppet.mocker.ContactMock.load(id)
    far.puppet.mocker.RoomMock.load(room).add(...people.map(contact)).by(contact(by))
  },
  friendship: ({ far, id, type, person }) => {
    far.puppet.friendships.set(id, { id, type, contactId: person, hello: 'hi', timestamp: Date.now() })
    far.puppet.emit('friendship', { friendshipId: id })
  },
  accepted: ({ far }) => far.puppet.accepted,
  set: ({ far, changes }) => { Object.assign(far.puppet, changes) },
  emit: ({ far, event, payload }) => { far.puppet.emit(event, payload) },
  scan: ({ far, code, status }) => { far.puppet.mocker.scan(code, status) },
  login: ({ far }) => { far.puppet.login('wxid_bot') },
  logout: async ({ far }) => { await far.puppet.logout('from the phone') },
  cut: async ({ far }) => { await far.server.stop() },
  mend: async ({ far }) => { await serve(far) },
  close: async ({ far, name }) => {
    fars.delete(name)
    await far.server.stop()
    await far.puppet.stop()
  },
}

process.on('unhandledRejection', () => {})
process.on('uncaughtException', () => {})
const answer = (line) => out(JSON.stringify(line) + '\n')
answer({ ok: 'ready' })
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { do: name, far, ...rest } = JSON.parse(line)
  try {
    const given = name === 'open' ? { far, ...rest } : { far: fars.get(far), name: far, ...rest }
    answer({ ok: await commands[name](given) ?? null })
  } catch (error) {
    answer({ error: String(error?.stack ?? error) })
  }
}
process.exit(0)
