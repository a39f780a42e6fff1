// What is shown of the chat: entries by key, each with its element. Knows nothing of the server.

import { draw } from "./view.js";

const box = document.getElementById("scroll");
const log = document.getElementById("log");
export const entries = new Map(); // key -> entry, in the order shown
export const elements = new Map(); // key -> its element
let acts = {};

export function onAct(given) {
  acts = given;
  return given;
}

export function nearEnd() {
  return box.scrollHeight - box.scrollTop - box.clientHeight < 120;
}

export function toEnd() {
  box.scrollTop = box.scrollHeight;
}

export function paint(key) {
  const stick = nearEnd();
  const old = elements.get(key);
  const act = old?.contains(document.activeElement) && document.activeElement.dataset.act;
  const element = drawAnew(key);
  if (!old) log.append(element);
  else if (isWritten(old, element)) elements.set(key, replaceAround(old, element));
  else old.replaceWith(element);
  if (act) elements.get(key).querySelector(`[data-act="${act}"]`)?.focus({ preventScroll: true });
  if (stick) toEnd();
}

function drawAnew(key) {
  const entry = entries.get(key);
  const element = draw(entry, acts);
  entry.fresh = false;
  elements.set(key, element);
  return element;
}

const field = (element) => element.querySelector("textarea");
const isWritten = (old, element) => Boolean(field(old) && field(element));

// The field stays: drawn anew it would lose the cursor, and the word that an input method is composing.
function replaceAround(old, element) {
  for (let kept = field(old), its = field(element); kept !== old; kept = kept.parentElement, its = its.parentElement) {
    const siblings = [...its.parentElement.childNodes];
    const i = siblings.indexOf(its);
    for (const one of [...kept.parentElement.childNodes]) if (one !== kept) one.remove();
    kept.before(...siblings.slice(0, i));
    kept.after(...siblings.slice(i + 1));
    kept.parentElement.className = its.parentElement.className;
  }
  return old;
}

export function put(key, entry, before = null) {
  entry.key = key;
  if (before !== null && !entries.has(key) && entries.has(before)) {
    const all = [...entries];
    all.splice(all.findIndex(([k]) => k === before), 0, [key, entry]);
    entries.clear();
    for (const [k, value] of all) entries.set(k, value);
    elements.get(before).before(drawAnew(key));
    return;
  }
  entries.set(key, entry);
  paint(key);
}

export function drop(key) {
  entries.delete(key);
  elements.get(key)?.remove();
  elements.delete(key);
}

export function dropLive() {
  for (const entry of [...entries.values()]) if (entry.live) drop(entry.key);
}

export function clear() {
  entries.clear();
  elements.clear();
  log.replaceChildren();
}
