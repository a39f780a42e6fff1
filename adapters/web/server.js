// Asks the server. Knows nothing of the page.

import { t } from "./strings.js";

export class ServerError extends Error {}
export const words = (error) => (error instanceof ServerError ? error.message : t.failed);
let loggedOut = () => {};

export function onLoggedOut(act) {
  loggedOut = act;
}

// The answer's JSON; a ServerError with the server's own words when it refuses.
export async function call(method, path, body) {
  const options = { method };
  if (method === "POST") {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body || {});
  }
  const response = await fetch(path, options);
  let answer = null;
  try {
    answer = await response.json();
  } catch { /* not ours: a proxy's page, or a crash */ }
  if (response.status === 401 && path !== "api/login") loggedOut();
  if (!response.ok) throw new ServerError((answer && answer.error) || `${t.failed} (${response.status})`);
  return answer;
}

// Not crypto.randomUUID: that one is missing on a plain-http address in the local network.
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
