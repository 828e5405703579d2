// The panel: what the reader asks for, with the served model's defaults.

import { clearError, showError } from "./errors.js";
import { onLanguage, text, texts } from "./language.js";
import { shown, SLIDERS } from "./sliders.js";

const node = (id) => document.getElementById(id);
const WHOLE = { seed: [0, 2 ** 32 - 1], num_inference_steps: [1, 100], n: [1, 10] };
const WORDS = ["scheduler", "negative_prompt"]; // sent as they are, where they are not empty
const SWITCHES = { preserve: "auto" }; // what each is where it is not off
const CHOICES = ["auto_guidance"]; // off, or one of several
const LEAST_SIDE_PX = 256; // smaller models are asked for this, so that there is something to see

const touched = new Set(); // the fields that the reader has set
let model = null;
let isNamed = false; // of several

const defaultOf = (name) => ownOf(name) ?? model.defaults[name] ?? SLIDERS[name]?.plain;
const ownOf = (name) => style()?.options[name]; // what the style that is chosen sets
const sliders = () => Object.keys(SLIDERS).filter((name) => model.options.includes(name));

// Offer what `served` (an entry of /v1/models) has.
export function setModel(served, isOneOfSeveral) {
  model = served;
  isNamed = isOneOfSeveral;
  node("model").textContent = served.id;
  for (const name of [...Object.keys(SLIDERS), ...WORDS, ...Object.keys(SWITCHES), ...CHOICES]) {
    node(name).closest(".field").hidden = !model.options.includes(name);
  }
  offerSizes();
  offerStyles();
  wearStyle();
  offerSamplers();
  refresh();
}

// What the style and the model say, but for what the reader has set.
function setDefaults() {
  for (const name of sliders()) {
    const { max, most } = SLIDERS[name];
    node(name).max = String(Math.min(most, Math.max(max, 2 * defaultOf(name))));
  }
  for (const name of [...sliders(), "num_inference_steps"]) {
    if (!touched.has(name)) node(name).value = String(defaultOf(name));
  }
  for (const [name, on] of Object.entries(SWITCHES)) {
    if (!touched.has(name)) node(name).checked = defaultOf(name) === on;
  }
  for (const name of CHOICES) {
    if (!touched.has(name)) node(name).value = defaultOf(name) ?? "off";
  }
}

function offerSamplers() {
  const kept = node("scheduler").value;
  const names = model.schedulers.map((name) => new Option(name, name));
  node("scheduler").replaceChildren(new Option(text("ownSampler"), ""), ...names);
  node("scheduler").value = kept;
}

// The style that is chosen, as /v1/models tells of it; undefined: none.
const style = () => model?.styles.find(({ id }) => id === node("style").value);
const isWhole = (chosen) => chosen && !chosen.template.includes("{instruction}");

function offerStyles() {
  const kept = node("style").value;
  const names = model.styles.map(({ id }) => new Option(id, id));
  node("style").replaceChildren(new Option(text("noStyle"), ""), ...names);
  node("style").value = model.styles.some(({ id }) => id === kept) ? kept : "";
  node("styles").hidden = names.length === 0;
}

let written = ""; // the reader's instruction, while a style stands in its place

// What the model is to do, in words: the reader's, or those of a style that is all of it.
export const wording = () => node("prompt").value.trim();

function wearStyle() {
  const prompt = node("prompt");
  const whole = isWhole(style());
  if (whole && !prompt.disabled) written = prompt.value;
  if (whole) prompt.value = style().template;
  else if (prompt.disabled) prompt.value = written;
  prompt.disabled = whole ?? false;
  node("chips").hidden = prompt.disabled;
  describeStyle();
  setDefaults();
}

// In the page's language where it has the words, as of the built-in styles; else in the operator's.
function describeStyle() {
  const said = style()?.description ?? "";
  node("hint-style").textContent = texts("styles")[said] ?? said;
}

function offerSizes() {
  const { resolution_px: usual, size_multiple_px: multiple, max_side_px: most } = model;
  const sides = [usual / 2, usual, 2 * usual, 4 * usual]
    .filter((side) => side <= most && side >= 64 && side % multiple === 0);
  const kept = node("size").value;
  node("size").replaceChildren(...sides.map((side) => {
    return new Option(text("pixels", { px: side }), String(side));
  }));
  const usable = sides.filter((side) => side >= usual);
  const first = usable.find((side) => side >= Math.min(LEAST_SIDE_PX, 2 * usual)) ?? usual;
  const isKept = touched.has("size") && sides.includes(Number(kept));
  node("size").value = isKept ? kept : String(first);
}

// The sliders' values beside them, and the way back to the default; no framing of the whole.
function refresh() {
  node("framing").hidden = isRestored();
  for (const name of model ? sliders() : []) {
    const slider = node(name);
    slider.parentElement.querySelector("output").value = shown(name, slider.value);
    const standard = defaultOf(name);
    const whose = ownOf(name) === undefined ? "standard" : "ownStandard";
    node(`standard-${name}`).textContent = text(whose, { value: shown(name, standard) });
    node(`reset-${name}`).hidden = Number(slider.value) === standard;
  }
}

// At the photograph's own size all of it comes back: nothing is trimmed.
const isRestored = () => node("restore_size").value === "true";
const framing = () => (isRestored() ? "fit" : node("resize").value);

// What comes back of `photograph`, by its aspect: { width, height }.
export function shapeOf(photograph) {
  return isRestored() || framing() === "pad" ? photograph : canvasOf(photograph);
}

// The model's canvas for `photograph` in px: its aspect, the long side asked for, whole multiples.
function canvasOf({ width, height }) {
  const side = Number(node("size").value);
  if (framing() !== "fit") return { width: side, height: side };
  const scale = side / Math.max(width, height) / model.size_multiple_px;
  const snap = (length) => Math.max(1, Math.round(length * scale)) * model.size_multiple_px;
  return { width: snap(width), height: snap(height) };
}

// The fields to send: the instruction, and what differs from style and model.
export function fieldsOf(photograph) {
  const fields = { prompt: isWhole(style()) ? "" : wording() };
  if (!model) return fields;
  if (isNamed) fields.model = model.id;
  if (style()) fields.style = style().id;
  for (const name of [...sliders(), "num_inference_steps"]) {
    const value = node(name).value.trim();
    if (value && Number(value) !== defaultOf(name)) fields[name] = value;
  }
  for (const name of WORDS) {
    const value = node(name).value.trim();
    if (value && model.options.includes(name)) fields[name] = value;
  }
  if (count() > 1) fields.n = String(count());
  if (node("seed").value.trim()) fields.seed = node("seed").value.trim();
  if (framing() !== "fit") fields.resize = framing();
  fields.restore_size = String(isRestored()); // with `size` no default would say it
  fields.detail = isRestored() ? "source" : "model";
  for (const name of [...Object.keys(SWITCHES), ...CHOICES]) {
    const value = SWITCHES[name] ? (node(name).checked ? SWITCHES[name] : "off") : node(name).value;
    const isSaid = value !== (defaultOf(name) ?? "off");
    if (isSaid && model.options.includes(name)) fields[name] = value;
  }
  const side = Number(node("size").value);
  if (photograph && side !== model.resolution_px) {
    const { width, height } = canvasOf(photograph);
    fields.size = `${width}x${height}`;
  }
  return fields;
}

// How many images of each photograph.
export const count = () => Number(node("n").value.trim() || 1);

export function steps() {
  return node("num_inference_steps").value.trim() || String(defaultOf("num_inference_steps"));
}

// The first field that cannot be sent, with its error shown; null when all can.
export function firstFault() {
  let first = null;
  if (!wording()) first = showError("prompt", () => text("noInstruction"));
  for (const [name, [min, max]] of Object.entries(WHOLE)) {
    const value = node(name).value.trim();
    const whole = /^\d+$/.test(value) && Number(value) >= min && Number(value) <= max;
    if (whole || !value) continue; // empty: the default
    const label = () => node(name).parentElement.querySelector("label").textContent;
    first ??= showError(name, () => text("notWhole", { label: label(), min, max }));
  }
  return first;
}

export function setSeed(seed) {
  node("seed").value = String(seed);
  node("more").open = true;
  clearError("seed");
}

// `changed()` after every change of a field.
export function installForm(changed) {
  const form = node("form");
  form.addEventListener("input", (event) => {
    touched.add(event.target.id);
    clearError(event.target.id);
    if (event.target.id === "style") {
      wearStyle();
      clearError("prompt");
    }
    refresh();
    changed();
  });
  node("prompt").addEventListener("keydown", (event) => {
    const composing = event.isComposing || event.keyCode === 229; // Safari tells by 229 alone
    if (event.key !== "Enter" || event.shiftKey || composing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  for (const name of Object.keys(SLIDERS)) {
    node(`reset-${name}`).addEventListener("click", () => {
      touched.delete(name);
      node(name).value = String(defaultOf(name));
      node(name).focus();
      refresh();
      changed();
    });
  }
  onLanguage(() => {
    offerIdeas(changed);
    if (model) {
      offerSizes();
      offerStyles();
      describeStyle();
      offerSamplers();
    }
    refresh();
    changed();
  });
}

function offerIdeas(changed) {
  node("chips").replaceChildren(...texts("ideasList").map((idea) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = idea;
    button.addEventListener("click", () => {
      node("prompt").value = idea;
      node("prompt").focus();
      clearError("prompt");
      changed();
    });
    item.append(button);
    return item;
  }));
}
