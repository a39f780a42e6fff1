// Draws one entry of the chat, and the panel. Knows nothing of the server. Texts go in as text only.

import { language, t } from "./strings.js";

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const ICONS = {
  good: "M7 10.5v9H4v-9zM7 18.5c1.5 1 3 1.5 5 1.5h3.5c1.5 0 2.5-.8 2.8-2.2l1.2-5c.3-1.4-.6-2.8-2.2-2.8H13.5l.6-3.5c.2-1.5-.6-2.5-1.8-2.5-.4 1.5-2.3 5-5.3 6.5",
  bad: "M7 13.5v-9H4v9zM7 5.5C8.5 4.5 10 4 12 4h3.5c1.5 0 2.5.8 2.8 2.2l1.2 5c.3 1.4-.6 2.8-2.2 2.8H13.5l.6 3.5c.2 1.5-.6 2.5-1.8 2.5-.4-1.5-2.3-5-5.3-6.5",
  correct: "M14.5 6.5l3 3M5 19l.8-3.8L16 5l3 3L8.8 18.2z",
};

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

function clock(at) {
  return at ? new Date(at * 1000).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" }) : null;
}

function day(at) {
  return new Date(at * 1000).toLocaleDateString(language, { dateStyle: "medium" });
}

const bubble = (kind, text, attributes = {}) =>
  h("div", { class: `bubble ${kind}`, dir: "auto", ...attributes }, text);

const hidden = (text) => h("span", { class: "sr" }, text);

// Not `disabled`: a disabled button would lose the keyboard's focus.
const busy = (entry) => ({ "aria-disabled": entry.busy ? "true" : null });

// `acts`: pick(entry, n), say(entry, body), takeBack(entry), edit(entry), retry(entry)
export function draw(entry, acts) {
  if (entry.role === "user") return drawUser(entry, acts);
  if (entry.role === "notice") return h("p", { class: "notice", dir: "auto" }, entry.text);
  return entry.candidates ? drawOffer(entry, acts) : drawReply(entry, acts);
}

function drawUser(entry, acts) {
  const failed = entry.failed && h("p", { class: "error" }, `${entry.error || t.notSent} `,
    h("button", { type: "button", class: "link", on: { click: () => acts.retry(entry) } }, t.retry));
  return h("div", { class: "turn user" }, hidden(t.you), bubble("mine", entry.text, { title: clock(entry.at) }), failed || null);
}

function drawReply(entry, acts) {
  const body = bubble("theirs", entry.text, { title: clock(entry.at), "data-candidate": 1 });
  if (entry.live) body.classList.add("live");
  return h("div", { class: "turn bot", "aria-busy": entry.live ? "true" : null },
    hidden(t.bot), body, entry.live ? null : drawRecalled(entry), entry.live || !entry.exchange ? null : under(entry, acts));
}

// What was said before and the reply was given to go by.
function drawRecalled(entry) {
  if (!entry.recalled?.length) return null;
  const summary = h("summary", { "data-act": "recalled" }, t.recalled(entry.recalled.length));
  const list = h("ul", {}, ...entry.recalled.map((one) => h("li", {},
    h("span", { class: "meta" }, `${day(one.at)} · ${one.role === "user" ? t.you : t.bot}`), h("span", { dir: "auto" }, one.text))));
  const details = h("details", { class: "recalled", open: Boolean(entry.unfolded) }, summary, list);
  details.addEventListener("toggle", () => { entry.unfolded = details.open; });
  return details;
}

function chosenOf(entry) {
  if (entry.feedback === "1" || entry.feedback === "2") return Number(entry.feedback);
  if (["tie", "both_bad", "correction"].includes(entry.feedback)) return 0; // neither above the other
  return entry.offer === "chosen" ? entry.candidates.indexOf(entry.text) + 1 : 0;
}

function drawOffer(entry, acts) {
  const chosen = chosenOf(entry);
  const pickable = !entry.live && entry.offer !== "expired";
  const cards = entry.candidates.map((text, i) => drawCard(entry, acts, text, i + 1, chosen, pickable));
  const question = !entry.live && entry.offer === "open" && h("p", { class: "question", id: `q-${entry.exchange}` }, t.which);
  const asking = pickable && !chosen && !["good", "bad", "correction"].includes(entry.feedback);
  return h("div", { class: `turn bot offer ${entry.offer}`, "aria-busy": entry.live ? "true" : null, role: "group", "aria-label": t.which },
    question || null,
    h("div", { class: "cards" }, ...cards),
    entry.live ? null : drawRecalled(entry),
    asking ? h("div", { class: "both" }, verdict(entry, acts, "both_bad", t.bothBad), verdict(entry, acts, "tie", t.tie)) : null,
    entry.offer === "expired" ? h("p", { class: "meta" }, t.expired) : null,
    chosen || (!asking && pickable) ? under(entry, acts) : null);
}

function drawCard(entry, acts, text, number, chosen, pickable) {
  const fades = chosen ? chosen !== number : ["both_bad", "correction"].includes(entry.feedback)
    || (["closed", "expired"].includes(entry.offer) && entry.feedback === "" && entry.text !== text && entry.candidates.includes(entry.text));
  const classes = ["card", chosen === number && "chosen", fades && "faded", entry.fresh && "fresh", entry.live && "live", pickable && "pickable"];
  const on = chosen === number;
  const click = () => {
    if (!pickable || entry.busy || String(getSelection())) return; // selecting words is not picking
    if (on) acts.takeBack(entry);
    else acts.pick(entry, number);
  };
  const label = on ? `${t.pick(number)}: ${t.picked}, ${t.takeBack}` : t.pick(number);
  return h("div", { class: classes.filter(Boolean).join(" "), on: { click } },
    h("button", {
      type: "button", class: "number", disabled: !pickable, ...busy(entry), "aria-pressed": String(on),
      "aria-label": label, title: label, "data-act": `pick${number}`,
    }, h("b", {}, String(number)), on ? h("span", {}, t.picked) : null),
    h("div", { class: "words", dir: "auto", "data-candidate": number }, text));
}

function verdict(entry, acts, value, label) {
  const on = entry.feedback === value;
  const click = () => (on ? acts.takeBack(entry) : acts.say(entry, { choice: value }));
  return h("button", {
    type: "button", class: "pill", "aria-pressed": String(on), ...busy(entry), "data-act": value,
    title: on ? t.takeBack : null, on: { click },
  }, label);
}

function mark(entry, value, act) {
  const key = value === "correction" ? "correct" : value;
  const on = entry.feedback === value;
  const label = on ? `${t[key]}: ${t.takeBack}` : t[key];
  return h("button", {
    type: "button", class: `mark ${key}`, "aria-pressed": String(on), "aria-label": label, title: label,
    ...busy(entry), "data-act": key, on: { click: act },
  }, icon(key));
}

function under(entry, acts) {
  const rate = (value) => mark(entry, value, () =>
    entry.feedback === value ? acts.takeBack(entry) : acts.say(entry, { rating: value }));
  const correct = mark(entry, "correction", () =>
    entry.feedback === "correction" ? acts.takeBack(entry) : acts.edit(entry));
  const version = entry.lora ? h("span", { class: "version", title: `LoRA ${entry.lora}` }, entry.lora) : null;
  const second = entry.candidates && chosenOf(entry) === 2;
  return h("div", { class: second ? "under second" : "under" },
    entry.editing ? editor(entry, acts) : null,
    entry.feedback === "correction" && entry.correction
      ? h("div", { class: "corrected", dir: "auto" }, h("span", { class: "meta" }, t.corrected), h("div", {}, entry.correction)) : null,
    h("div", { class: "marks" }, rate("good"), rate("bad"), correct, version));
}

export function replyText(entry) {
  return entry.candidates ? entry.candidates[(chosenOf(entry) || 1) - 1] : entry.text;
}

function editor(entry, acts) {
  const area = h("textarea", { "aria-label": t.better, rows: 3, dir: "auto" });
  area.value = entry.draft;
  area.addEventListener("input", () => { entry.draft = area.value; });
  const save = () => entry.draft.trim() && acts.say(entry, { correction: entry.draft.trim() }); // a button drawn anew has no field
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") acts.edit(entry);
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) save();
  });
  return h("div", { class: "editor" }, area, h("div", { class: "row" },
    h("button", { type: "button", class: "primary", "data-act": "save", ...busy(entry), on: { click: save } }, t.save),
    h("button", { type: "button", class: "pill", on: { click: () => acts.edit(entry) } }, t.cancel)));
}

export function drawPanel(panel, status, acts) {
  const night = status.night;
  const short = status.records < status.min_records;
  const row = (label, value) => [h("dt", {}, label), h("dd", { dir: "auto" }, value)];
  panel.replaceChildren(
    h("div", { class: "panel-head" }, h("h2", {}, t.school),
      h("button", { type: "button", class: "close", "aria-label": t.close, on: { click: acts.close } }, "×")),
    night ? drawNight(night) : h("p", { class: "meta" }, short ? t.records(status.records, status.min_records) : t.enough(status.records)),
    h("button", { type: "button", class: "primary", id: "learn", disabled: Boolean(night), on: { click: acts.learn } },
      night ? t.schoolRunning : t.start),
    h("dl", {}, ...row(t.model, status.model), ...(status.verdict ? row(t.lastNight, status.verdict) : [])),
    h("h3", {}, t.loras),
    status.loras.length ? h("ul", { class: "loras" }, ...status.loras.map(drawLora)) : h("p", { class: "meta" }, t.noLoras),
    ...(status.platforms.length ? [h("h3", {}, t.platforms), h("ul", { class: "loras platforms" }, ...status.platforms.map(drawPlatform))] : []));
}

function drawPlatform(one) {
  const line = h("li", {}, h("code", {}, one.name),
    h("span", { class: `state is-${one.state}` }, t.health[one.state] || one.state), h("span", { class: "meta" }, one.detail));
  if (one.wants_code) line.append(h("p", { class: "meta" }, t.wantsCode));
  if (!one.qr) return line;
  const drawn = new DOMParser().parseFromString(one.qr, "image/svg+xml").documentElement;
  drawn.setAttribute("role", "img");
  drawn.setAttribute("aria-label", t.scan);
  line.append(h("figure", { class: "qr" }, drawn, h("figcaption", { class: "meta" }, t.scan)));
  return line;
}

export function drawNight(night) {
  const words = [night.phase, night.detail, night.seconds_left ? t.left(night.seconds_left) : ""].filter(Boolean);
  return h("div", { class: "night" }, h("strong", {}, t.night(night.number)),
    h("progress", { max: 1, value: night.done, "aria-label": t.schoolRunning }), h("p", { class: "meta" }, words.join(" · ")));
}

function drawLora(lora) {
  return h("li", {}, h("code", {}, lora.version),
    h("span", { class: `state ${lora.state}` }, t.states[lora.state] || lora.state),
    h("span", { class: "meta" }, [clock(lora.at), lora.detail].filter(Boolean).join(" · ")));
}
