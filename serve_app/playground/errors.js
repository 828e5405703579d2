// What went wrong, said beside what caused it, in the page's language even after a switch.

import { onLanguage, text, texts } from "./language.js";

const shown = new Map(); // place -> () => message

function nodeOf(place) {
  return document.getElementById(`error-${place}`);
}

function fieldOf(place) {
  return document.getElementById({ image: "file", mask: "paint", model: "choice", general: "edit" }[place] ?? place);
}

// `place`: image, mask, prompt, general, or a field's id. Returns the field, to be focused.
export function showError(place, message) {
  shown.set(place, message);
  nodeOf(place).textContent = message();
  const field = fieldOf(place);
  if (place !== "general") field.setAttribute("aria-invalid", "true");
  field.closest("details")?.setAttribute("open", "");
  return field;
}

export function clearError(place) {
  if (!shown.delete(place)) return;
  nodeOf(place).textContent = "";
  fieldOf(place).removeAttribute("aria-invalid");
}

export function clearErrors() {
  for (const place of [...shown.keys()]) clearError(place);
}

// Where a refusal of the server belongs.
export function placeOf({ status, param }) {
  if (status === 401) return "key";
  if (status === 413) return "image";
  return param && nodeOf(param) ? param : "general"; // our fields have the API's names
}

// A refusal as a text for the reader; `hadKey`: a key was sent with the request.
export function reasonOf({ status, code, message }, hadKey) {
  if (status === 0) return text("unreachable");
  if (status === 401) return text(hadKey ? "keyRefused" : "keyNeeded");
  return texts("errors")[code] ?? (message || text("failed", { status }));
}

export function installErrors() {
  onLanguage(() => {
    for (const [place, message] of shown) nodeOf(place).textContent = message();
  });
}
