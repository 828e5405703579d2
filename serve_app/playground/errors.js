// What went wrong, said beside what caused it, in the page's language even after a switch.

import { onLanguage, text, texts } from "./language.js";

// The API's `error.param` -> the field of this page.
const PLACES = { image: "image", images: "image", image_url: "image", prompt: "prompt",
                 instruction: "prompt", key: "key" };

const shown = new Map(); // place -> () => message

function nodeOf(place) {
  return document.getElementById(`error-${place}`);
}

function fieldOf(place) {
  return document.getElementById({ image: "file", general: "edit" }[place] ?? place);
}

// `place`: image, prompt, general, or a field's id. Returns the field, to be focused.
export function showError(place, message) {
  shown.set(place, message);
  nodeOf(place).textContent = message();
  const field = fieldOf(place);
  if (place !== "general") field.setAttribute("aria-invalid", "true");
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
export function placeOf({ status, code, param }) {
  if (status === 401) return "key";
  if (code.startsWith("image_") || code === "body_too_large") return "image";
  if (code.startsWith("instruction_")) return "prompt";
  const place = PLACES[param] ?? param;
  return place && nodeOf(place) ? place : "general";
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
