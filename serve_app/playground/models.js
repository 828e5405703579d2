// The served models, and which one of them edits.

import { clearError } from "./errors.js";
import { setModel } from "./form.js";
import { onLanguage, text } from "./language.js";
import { fetchModels } from "./server.js";

const node = (id) => document.getElementById(id);

let models = [];

export const hasModels = () => models.length > 0;

// Throws what the server refuses.
export async function loadModels() {
  if (hasModels()) return;
  models = await fetchModels();
  node("models").hidden = models.length === 1;
  offer();
  choose();
}

function offer() {
  const kept = node("choice").value;
  node("choice").replaceChildren(...models.map(({ id, status }) => {
    const words = { idle: "modelIdle", starting: "modelStarting", failed: "modelFailed" }[status];
    const option = new Option(words ? text(words, { id }) : id, id);
    option.disabled = status === "failed";
    return option;
  }));
  const first = models.find(({ status }) => status !== "failed") ?? models[0];
  node("choice").value = kept || first.id;
}

function choose() {
  setModel(models.find(({ id }) => id === node("choice").value), models.length > 1);
}

// `changed()` when another model is chosen.
export function installModels(changed) {
  node("choice").addEventListener("change", () => {
    clearError("model");
    choose();
    changed();
  });
  onLanguage(() => {
    if (hasModels()) offer();
  });
}
