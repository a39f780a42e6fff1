// The chat page: what the server tells of a chat, and what a person does in it. log.js holds what is shown, view.js
// draws it, frame.js is what stands around it.

import { onSay } from "./composer.js";
import { loadStatus, showNight, showPersona, status, toast } from "./frame.js";
import { clear, drop, dropLive, elements, entries, nearEnd, onAct, paint, put, toEnd } from "./log.js";
import { call, newId, onLoggedOut, ServerError, words } from "./server.js";
import { language, t } from "./strings.js";
import { replyText } from "./view.js";

const $ = (id) => document.getElementById(id);
let waiting = 0; // messages sent from here that are not answered yet
let early = null; // events that came before the log did
let source = null;

function chatName() {
  try {
    const name = localStorage.getItem("nightschool.chat") || "main";
    localStorage.setItem("nightschool.chat", name);
    return /^[A-Za-z0-9._-]{1,64}$/.test(name) ? name : "main";
  } catch {
    return "main"; // storage can be switched off
  }
}
const chat = chatName();

// ---- the log ---------------------------------------------------------------------------------

function showTyping() {
  const streaming = [...entries.values()].some((entry) => entry.live);
  const stick = nearEnd();
  $("typing").hidden = waiting === 0 || streaming;
  if (stick) toEnd();
}

const keyOf = (line, i) => (line.exchange && line.role === "assistant" ? `x:${line.exchange}` : line.id || `line:${i}:${line.at}`);

function entryOf(line) {
  const offered = line.role === "assistant" && line.candidates.length > 1;
  return { ...line, candidates: offered ? line.candidates : null };
}

const shownState = (entry) => JSON.stringify(
  [entry.text, entry.candidates, entry.offer, entry.feedback, entry.correction, entry.lora, entry.recalled]);

let asked = 0; // how often for the log,
let told = 0; // and the last of them that was answered

// All of it anew: at the start, and after the connection was lost.
async function loadLog() {
  $("log").setAttribute("aria-busy", "true");
  told = ++asked;
  const { lines, persona } = await call("GET", `api/chat/${chat}/log`);
  showPersona(persona);
  const before = new Map(entries);
  clear();
  lines.forEach((line, i) => {
    const old = before.get(keyOf(line, i));
    put(keyOf(line, i), { ...entryOf(line), editing: old?.editing, draft: old?.draft, unfolded: old?.unfolded });
  });
  for (const [key, entry] of before) { // what only this tab knows: on its way, or it failed
    if (!entries.has(key) && (entry.failed || entry.sending)) put(key, entry);
  }
  $("log").setAttribute("aria-busy", "false");
  toEnd();
  if (!lines.length) call("POST", `api/chat/${chat}/open`).catch(() => {}); // the bot's greeting comes as an event
}

// What was given, chosen or has expired since: the texts are here already.
let refreshing = null;
function refreshSoon() {
  clearTimeout(refreshing);
  refreshing = setTimeout(() => refresh().catch(() => {}), 120);
}

async function refresh() {
  const mine = ++asked;
  const { lines, persona } = await call("GET", `api/chat/${chat}/log`);
  if (mine < told) return; // a later question was answered sooner
  told = mine;
  showPersona(persona);
  for (const [i, line] of lines.entries()) {
    const entry = entries.get(keyOf(line, i));
    if (line.role !== "assistant" || !line.exchange || !entry || entry.live) continue;
    const seen = shownState(entry);
    Object.assign(entry, entryOf(line));
    if (shownState(entry) !== seen) paint(entry.key);
  }
}

// ---- what the server tells ------------------------------------------------------------------

const heard = {
  message(data) {
    const late = [...entries.values()].find((entry) => entry.answers === data.id);
    if (!entries.has(data.id)) put(data.id, { role: "user", text: data.text, at: Date.now() / 1000 }, late?.key ?? null);
  },
  delta(data) {
    const key = `x:${data.exchange}`;
    let entry = entries.get(key);
    if (entry && !entry.live) return;
    if (!entry) {
      entry = { role: "assistant", exchange: data.exchange, live: true, texts: ["", ""], text: "", candidates: null };
      put(key, entry);
      showTyping();
    }
    const i = data.candidate - 1;
    entry.texts[i] = data.whole ? data.text : entry.texts[i] + data.text;
    entry.text = entry.texts[0];
    if (i === 1 && !entry.candidates) {
      entry.candidates = entry.texts;
      paint(key);
    }
    grow(entry, i);
  },
  platform() {
    loadStatus().catch(() => {}); // it is asked again when the page connects anew
  },
  reply(data) {
    if (data.exchange) finish(data);
    else notice(data);
    showTyping();
    refreshSoon();
  },
  feedback(data) {
    const entry = entries.get(`x:${data.exchange}`);
    if (entry) refreshSoon();
  },
  night: showNight,
  lora() {
    loadStatus();
  },
  ping() {},
};

let frame = null;
const grown = new Set();
function grow(entry, i) {
  grown.add([entry, i]);
  frame ??= requestAnimationFrame(() => {
    const stick = nearEnd();
    for (const [one, candidate] of grown) {
      const place = one.live && elements.get(one.key)?.querySelector(`[data-candidate="${candidate + 1}"]`);
      if (place) place.textContent = one.texts[candidate];
    }
    grown.clear();
    frame = null;
    if (stick) toEnd();
  });
}

function finish(reply) {
  const key = `x:${reply.exchange}`;
  const entry = entries.get(key);
  if (entry && !entry.live) return; // told twice: as an event and as the answer to the request
  const base = { role: "assistant", exchange: reply.exchange, at: Date.now() / 1000, feedback: "", correction: "", answers: reply.answers };
  put(key, {
    ...base, text: reply.candidates ? reply.candidates[0] : reply.text,
    candidates: reply.candidates, offer: reply.candidates ? "open" : "none", lora: status?.lora,
    recalled: reply.recalled ?? [],
  });
}

function notice(reply) {
  const press = (reply.answers || "").split("/").length > 2; // chat/exchange/id: thanks for a click, which its tab shows
  if (press || entries.has(reply.id)) return;
  dropLive(); // a chat's messages are answered in order: what was being written ended without a reply
  put(reply.id, { role: reply.greets ? "assistant" : "notice", text: reply.text, answers: reply.answers });
}

function connect() {
  source?.close();
  dropLive();
  early = [];
  source = new EventSource(`api/chat/${chat}/events`);
  source.onopen = async () => {
    early = [];
    try {
      await loadStatus();
      await loadLog();
    } catch {
      return; // the stream will fail as well, and connect again
    }
    $("offline").hidden = true;
    const missed = early;
    early = null;
    for (const [name, data] of missed) heard[name](data);
    showTyping();
  };
  for (const name of Object.keys(heard)) {
    source.addEventListener(name, (event) => {
      const data = JSON.parse(event.data);
      if (early) early.push([name, data]);
      else heard[name](data);
    });
  }
  source.onerror = () => {
    early ??= [];
    dropLive(); // what is being written comes again, whole
    $("offline").textContent = t.offline;
    $("offline").hidden = false;
    if (source.readyState === EventSource.CLOSED) setTimeout(reconnect, 3000);
  };
}

function reconnect() {
  if ($("login").hidden && !document.hidden) call("GET", "api/status").then(connect, () => setTimeout(reconnect, 3000));
}

// Browsers allow six connections to one server: a tab that nobody looks at gives its own back.
let asleep = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(asleep);
  if (document.hidden) {
    asleep = setTimeout(() => { source?.close(); source = null; }, 60_000);
  } else if (!source || source.readyState === EventSource.CLOSED) {
    connect();
  }
});

// ---- what the person does -------------------------------------------------------------------

async function send(entry) {
  entry.failed = false;
  entry.sending = true;
  put(entry.key, entry);
  toEnd();
  waiting += 1;
  showTyping();
  try {
    const { replies } = await call("POST", `api/chat/${chat}/messages`, { text: entry.text, id: entry.wireId });
    for (const reply of replies) heard.reply(reply);
  } catch (error) {
    entry.failed = true;
    entry.error = error instanceof ServerError ? error.message : "";
  }
  entry.sending = false;
  waiting -= 1;
  if (entries.get(entry.key) === entry && entry.failed) paint(entry.key);
  showTyping();
  refreshSoon();
}

function say(text) {
  const wireId = newId();
  send({ role: "user", text, at: Date.now() / 1000, wireId, key: `${chat}/${wireId}` });
}

async function press(entry, work) {
  if (entry.busy) return;
  entry.busy = true;
  paint(entry.key);
  try {
    const { replies, feedback } = await work();
    entry.feedback = feedback;
    if (feedback === "correction") entry.editing = false; // a rating leaves what is being written
    if (replies.length) toast(replies[replies.length - 1].text);
    await refresh();
  } catch (error) {
    toast(words(error));
  }
  entry.busy = false;
  const now = entries.get(entry.key);
  if (now) paint(entry.key);
}

const feedbackPath = (entry) => `api/exchanges/${encodeURIComponent(entry.exchange)}/feedback`;

const acts = onAct({
  say(entry, body) {
    return press(entry, () => call("POST", feedbackPath(entry), { ...body, id: newId() }));
  },
  pick(entry, number) {
    entry.fresh = true;
    return acts.say(entry, { choice: number });
  },
  takeBack(entry) {
    return press(entry, () => call("DELETE", feedbackPath(entry)));
  },
  edit(entry) {
    entry.editing = !entry.editing;
    entry.draft = replyText(entry);
    paint(entry.key);
    const act = entry.editing ? "textarea" : '[data-act="correct"]';
    elements.get(entry.key).querySelector(act)?.focus();
  },
  retry(entry) {
    return send(entry);
  },
});

// ---- login ----------------------------------------------------------------------------------

function showLogin() {
  source?.close();
  $("login").hidden = false;
  $("token").focus();
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("login-error").textContent = "";
  try {
    await call("POST", "api/login", { token: $("token").value });
  } catch {
    $("login-error").textContent = t.wrongToken;
    $("token").select();
    return;
  }
  $("token").value = "";
  $("login").hidden = true;
  start();
});

// ---- start ----------------------------------------------------------------------------------

async function start() {
  try {
    await loadStatus();
  } catch {
    $("offline").textContent = t.offline;
    $("offline").hidden = false;
    setTimeout(() => $("login").hidden && start(), 3000);
    return;
  }
  connect();
  $("text").focus();
}

document.documentElement.lang = language;
onLoggedOut(showLogin);
onSay(say);
$("persona").addEventListener("change", () => say(`/persona ${$("persona").value || "-"}`));
$("log").setAttribute("aria-label", t.chat);
$("token-label").textContent = t.token;
$("login-button").textContent = t.login;
start();
