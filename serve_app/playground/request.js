// The page's request as code to copy: curl or Python.

import { onLanguage, text } from "./language.js";
import { curl, python } from "./snippets.js";

const DIALECTS = { "tab-curl": curl, "tab-python": python };
const node = (id) => document.getElementById(id);

let chosen = "tab-curl";
let latest = null;

// `request`: { fields, name, masked, key } of what the page would send now.
export function showRequest(request) {
  latest = request;
  node("save-mask").hidden = !request.masked;
  const origin = new URL(".", location.href).href.replace(/\/$/, "");
  node("snippet").textContent = DIALECTS[chosen]({ ...request, origin });
}

function select(id) {
  chosen = id;
  for (const tab of Object.keys(DIALECTS)) {
    node(tab).setAttribute("aria-selected", String(tab === id));
    node(tab).tabIndex = tab === id ? 0 : -1;
  }
  node("snippet").setAttribute("aria-labelledby", id);
  if (latest) showRequest(latest);
}

async function copy() {
  getSelection().selectAllChildren(node("snippet")); // stays where the clipboard is closed to us
  try {
    await navigator.clipboard.writeText(node("snippet").textContent);
  } catch {
    return; // no permission, or not a secure origin: it is selected, Ctrl-C copies it
  }
  node("copy").textContent = text("copied");
  setTimeout(() => {
    node("copy").textContent = text("copy");
  }, 2000);
}

export function installRequest() {
  const tabs = Object.keys(DIALECTS);
  for (const id of tabs) {
    node(id).addEventListener("click", () => select(id));
    node(id).addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      const other = tabs[(tabs.indexOf(id) + 1) % tabs.length];
      select(other);
      node(other).focus();
    });
  }
  node("copy").addEventListener("click", copy);
  onLanguage(() => select(chosen));
}
