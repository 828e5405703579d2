// The page's language: the browser's, until the reader switches; the switch is remembered.

import { TEXTS } from "./texts.js";

const STORE = "rayedit-language";
const TAGS = { en: "en", zh: "zh-Hans" };

let current = remembered() ?? preferred();
const listeners = [];

function remembered() {
  try {
    return TEXTS[localStorage.getItem(STORE)] ? localStorage.getItem(STORE) : null;
  } catch {
    return null; // storage is switched off
  }
}

function preferred() {
  const known = navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => TEXTS[tag]);
  return known ?? "en";
}

// text("busy", { seconds: 3 }) in the page's language.
export function text(key, values = {}) {
  return TEXTS[current][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// What is not a sentence: a list or a table of texts.
export function texts(key) {
  return TEXTS[current][key];
}

// `listener` runs now, and again after each switch.
export function onLanguage(listener) {
  listeners.push(listener);
  listener();
}

function apply() {
  document.documentElement.lang = TAGS[current];
  for (const node of document.querySelectorAll("[data-text]")) {
    node.textContent = text(node.dataset.text);
  }
  for (const node of document.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", text(node.dataset.label));
  }
  for (const node of document.querySelectorAll("[data-placeholder]")) {
    node.placeholder = text(node.dataset.placeholder);
  }
}

export function installLanguage(button) {
  const other = () => (current === "en" ? "zh" : "en");
  onLanguage(() => {
    apply();
    button.textContent = TEXTS[other()].name;
    button.lang = TAGS[other()];
  });
  button.addEventListener("click", () => {
    current = other();
    try {
      localStorage.setItem(STORE, current);
    } catch {
      // not remembered, then
    }
    for (const listener of listeners) listener();
  });
}
