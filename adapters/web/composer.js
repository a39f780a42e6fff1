// The field at the bottom: grows with its text, and sends at Enter.

import { t } from "./strings.js";

const TALLEST = 200;
const field = document.getElementById("text");
const form = document.getElementById("composer");

function fit() {
  field.style.height = "auto";
  const full = field.scrollHeight + field.offsetHeight - field.clientHeight; // with its borders
  field.style.height = `${Math.min(full, TALLEST)}px`;
  field.classList.toggle("short", full <= TALLEST);
}

export function onSay(say) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (!text) return;
    field.value = "";
    fit();
    say(text);
  });
}

field.addEventListener("input", fit);
field.addEventListener("keydown", (event) => {
  // keyCode 229: Safari ends the composition before it tells of the Enter that ended it
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  form.requestSubmit();
});
field.placeholder = t.placeholder;
field.setAttribute("aria-label", t.placeholder);
document.getElementById("send").setAttribute("aria-label", t.send);
