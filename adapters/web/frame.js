// What stands around the chat: the header, the panel of the night school, a passing word. They show the bot's status.

import { put } from "./log.js";
import { call, newId, words } from "./server.js";
import { t } from "./strings.js";
import { drawNight, drawPanel } from "./view.js";

const $ = (id) => document.getElementById(id);
export let status = null; // as the server last told it
let lastLora;
let toastTimer;

export async function loadStatus() {
  status = await call("GET", "api/status");
  if (lastLora !== undefined && lastLora !== status.lora) {
    put(`lora:${newId()}`, { role: "notice", text: status.lora ? t.swapped(status.lora) : t.unswapped });
  }
  lastLora = status.lora;
  showStatus();
}

// How far a night is, as an event told.
export function showNight(night) {
  if (!status) return;
  status = { ...status, night: night.number ? night : null };
  showStatus();
  if (!night.number || night.done >= 1) loadStatus();
}

// Only where there are several. The log says who speaks here: another tab, or words, may have chosen.
export function showPersona(chosen) {
  const several = Boolean(status?.personas.length);
  $("persona").hidden = !several;
  $("name").classList.toggle("sr", several);
  if (!several) return;
  const names = ["", ...status.personas];
  const drawn = [...$("persona").options].map((option) => option.value);
  if (names.join("\n") !== drawn.join("\n")) // an open list must not close under somebody's finger
    $("persona").replaceChildren(...names.map((name) => new Option(name || status.name, name)));
  $("persona").value = chosen;
}

export function toast(text) {
  const box = $("toast");
  box.textContent = text;
  box.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => box.classList.remove("shown"), 4000);
}

const acts = {
  close() {
    togglePanel(false);
    $("school").focus();
  },
  async learn() {
    try {
      const { started, reason } = await call("POST", "api/learn");
      toast(started ? t.started : reason);
      await loadStatus();
    } catch (error) {
      toast(words(error));
    }
  },
};

function showStatus() {
  document.title = status.name;
  $("name").textContent = status.name;
  $("lora").textContent = status.lora ? `LoRA ${status.lora}` : t.base;
  $("lora").hidden = false;
  $("school-label").textContent = status.night ? t.schoolRunning : t.school;
  $("school").classList.toggle("running", Boolean(status.night));
  $("school-bar").hidden = !status.night;
  $("school-bar").value = status.night ? status.night.done : 0;
  const focused = $("panel").contains(document.activeElement) && document.activeElement.id;
  const night = $("panel").querySelector(".night");
  if (night && status.night) night.replaceWith(drawNight(status.night)); // leave the buttons under the pointer
  else drawPanel($("panel"), status, acts);
  if (focused) $(focused)?.focus();
}

function togglePanel(open) {
  $("panel").hidden = !open;
  $("school").setAttribute("aria-expanded", String(open));
}

$("school").addEventListener("click", () => togglePanel($("panel").hidden));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("panel").hidden) acts.close();
});
$("panel").setAttribute("aria-label", t.school);
$("persona").setAttribute("aria-label", t.persona);
$("school-label").textContent = t.school;
$("school-bar").setAttribute("aria-label", t.schoolRunning);
