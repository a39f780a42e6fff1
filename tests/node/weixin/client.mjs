// Runs Tencent's published client step by step: a command a line on stdin is answered by a line of JSON on stderr.
// (stdout is the client's own: it prints prompts there.) The client logs in at a fixed address, so fetch is sent on.
import { createInterface } from "node:readline";

const base = process.argv[2];
const real = globalThis.fetch;
globalThis.fetch = (url, options) =>
  real(String(url).replace("https://ilinkai.weixin.qq.com", base).replace("https://localhost:", "http://localhost:"), options);

const home = "./node_modules/@tencent-weixin/openclaw-weixin/dist/src";
const api = await import(`${home}/api/api.js`);
const login = await import(`${home}/auth/login-qr.js`);
const accounts = await import(`${home}/auth/accounts.js`);
const inbound = await import(`${home}/messaging/inbound.js`);
const send = await import(`${home}/messaging/send.js`);

let account = {};
let cursor = "";
let session = "";
const opts = () => ({ baseUrl: account.baseUrl, token: account.botToken });

const steps = {
  async start() {
    const started = await login.startWeixinLoginWithQr({ accountId: "new", force: true });
    session = started.sessionKey;
    return started;
  },
  async wait() {
    const found = await login.waitForWeixinLogin({ sessionKey: session, timeoutMs: 60_000 });
    process.stdin.resume(); // its prompt for digits pauses stdin
    if (found.connected) {
      account = found;
      const { botToken: token, baseUrl, userId } = found;
      accounts.saveWeixinAccount("kept", { token, baseUrl, userId });
      accounts.registerWeixinAccountId("kept");
    }
    return found;
  },
  comes: () => api.notifyStart(opts()),
  goes: () => api.notifyStop(opts()),
  async updates(timeoutMs) {
    const answer = await api.getUpdates({ ...opts(), get_updates_buf: cursor, timeoutMs });
    cursor = answer.get_updates_buf || cursor;
    const contexts = (answer.msgs ?? []).map((one) => inbound.weixinMessageToMsgContext(one, "kept"));
    return { ...answer, contexts };
  },
  say: ({ to, text, contextToken }) => send.sendMessageWeixin({ to, text, opts: { ...opts(), contextToken } }),
  config: ({ person, contextToken }) => api.getConfig({ ...opts(), ilinkUserId: person, contextToken }),
  typing: (body) => api.sendTyping({ ...opts(), body }),
};

for await (const line of createInterface({ input: process.stdin, terminal: false })) {
  let step;
  try {
    step = JSON.parse(line);
  } catch {
    continue;
  }
  if (!steps[step.do]) continue; // digits for the login's prompt, which reads stdin itself
  const answered = Promise.resolve(steps[step.do](step.with))
    .then((result) => ({ result: result ?? null }), (error) => ({ error: String(error) }))
    .then((answer) => process.stderr.write(`${JSON.stringify(answer)}\n`));
  if (step.do !== "wait") await answered;
}
process.exit(0);
