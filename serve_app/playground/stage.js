// The stage: nothing yet, a photograph, an edit that runs, an edit that is done.

import { paintingOf, showPainting } from "./brush.js";
import { reveal } from "./comparison.js";
import { onLanguage, text } from "./language.js";
import { PREVIEWS } from "./server.js";

const root = document.documentElement;
const node = (id) => document.getElementById(id);
const before = node("before");
const after = node("after");

let current = { photograph: null, result: null };

function setState(state) {
  root.dataset.state = state; // empty, ready, painting, running, done: the style sheets do the rest
}

function setAspect(width, height) {
  node("print").style.setProperty("--aspect", String(width / height));
}

// `painting`: the reader paints over it.
export function showPhotograph(photograph, painting = false) {
  current = { photograph, result: null };
  before.src = photograph.url;
  before.alt = photograph.name;
  after.removeAttribute("src");
  setAspect(photograph.width, photograph.height);
  showPainting(photograph);
  setState(painting ? "painting" : "ready");
  caption();
}

// `canvas`: { width, height } of what is to come; `instruction`: its title.
export function showRunning({ width, height }, instruction) {
  after.removeAttribute("src");
  after.alt = "";
  setAspect(width, height);
  node("progress").style.setProperty("--done", "0");
  setState("running");
  node("title").textContent = instruction;
}

// What an edit is doing, under the picture.
export function showProgress(words) {
  if (root.dataset.state === "running") node("facts").textContent = words;
}

// `k` counts from 0; the last step is the edit itself.
export function showPreview(blob, k) {
  const url = URL.createObjectURL(blob);
  after.onload = () => URL.revokeObjectURL(url);
  after.src = url;
  node("progress").style.setProperty("--done", String((k + 1) / (PREVIEWS + 1)));
}

// `fresh`: it has just been made, and is unveiled.
export function showResult(result, fresh) {
  current = { photograph: result.photograph, result };
  const [width, height] = result.size.split("x").map(Number);
  before.src = result.photograph.url;
  before.alt = result.photograph.name;
  after.onload = null;
  after.src = result.url;
  after.alt = result.title;
  setAspect(width, height);
  node("download").href = result.url;
  node("download").download = result.name;
  setState("done");
  caption();
  if (fresh) reveal();
}

function caption() {
  const { photograph, result } = current;
  const begins = paintingOf(photograph) ? "painted" : "paint";
  node("paint").textContent = text(isPainting() ? "paintDone" : begins);
  if (!photograph || root.dataset.state === "running") return;
  node("title").textContent = result ? result.title : photograph.name;
  node("facts").textContent = facts();
  node("seed-used").textContent = result ? text("seedUsed", result) : "";
  node("remark").textContent = remark(result);
}

function remark(result) {
  if (result?.understood) return text("notKnown", result);
  return result?.warnings?.includes("edit_is_global") ? text("allChanged") : "";
}

function facts() {
  const { photograph, result } = current;
  const size = (width, height) => `${width} × ${height}`;
  if (isPainting()) return text("paintHint");
  if (!result) return text("original", { size: size(photograph.width, photograph.height) });
  const words = text("facts", { ...result, size: size(...result.size.split("x")) });
  if (!result.report) return words;
  const percent = 100 * result.report.changed_share;
  const changed = text("changed", { percent: percent.toFixed(percent < 10 ? 1 : 0) });
  return words + changed + (result.report.guided ? text("guided", result.report.guided) : "");
}

export function isPainting() {
  return root.dataset.state === "painting";
}

export function installStage() {
  onLanguage(caption);
}

// The edits so far, newest first; `choose(result)` when one is picked.
export function addToStrip(result, choose) {
  const strip = node("strip");
  const item = document.createElement("li");
  const button = document.createElement("button");
  const image = document.createElement("img");
  button.type = "button";
  button.title = image.alt = result.title;
  image.src = result.url;
  button.append(image);
  item.append(button);
  button.addEventListener("click", () => {
    mark(button);
    choose(result);
  });
  strip.prepend(item);
  mark(button);
}

function mark(chosen) {
  for (const button of node("strip").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(button === chosen));
  }
}
