// The playground: what happens when.

import { installBrush, maskOf, paintingOf } from "./brush.js";
import { installComparison } from "./comparison.js";
import { clearError, clearErrors, installErrors, placeOf, reasonOf, showError } from "./errors.js";
import { fieldsOf, firstFault, installForm, setSeed, shapeOf, steps, wording } from "./form.js";
import { installLanguage, onLanguage, text, texts } from "./language.js";
import { hasModels, installModels, loadModels } from "./models.js";
import { readPhotograph, Unusable } from "./photograph.js";
import { installRequest, showRequest } from "./request.js";
import { edit, hasApiKey, PREVIEWS, Refused, setApiKey } from "./server.js";
import { buildSliders } from "./sliders.js";
import { MASK_NAME } from "./snippets.js";
import { installSources } from "./sources.js";
import { addToStrip, installStage, isPainting, showPhotograph, showPreview, showProgress,
         showResult, showRunning } from "./stage.js";

const node = (id) => document.getElementById(id);

let photograph = null; // the one that is shown
let photographs = []; // all that were chosen together
let result = null; // the edit that is shown
let running = null; // the AbortController of the edit that runs
let waiting = 0; // timer of a busy server

async function choose(files) {
  clearError("image");
  clearError("mask");
  try {
    const read = [];
    for (const file of files) read.push(await readPhotograph(file));
    photographs = read;
    [photograph] = read;
    place = null;
    running?.abort();
  } catch (error) {
    if (!(error instanceof Unusable)) throw error;
    showError("image", () => error.reason());
    return;
  }
  result = null;
  showPhotograph(photograph);
  const count = photographs.length;
  if (count > 1) say("severalReady", { count });
  else say("ready", { name: photograph.name });
  updateRequest();
}

let said = () => "";
let place = null; // { k, count }: which of several photographs is edited

function say(key, values) {
  const at = place;
  said = () => {
    const words = key ? text(key, values) : "";
    return at && words ? text("ofSeveral", { ...at, words }) : words;
  };
  node("status").textContent = said();
  showProgress(said());
}

async function findModels() {
  try {
    await loadModels();
  } catch (error) {
    refuse(error);
    return false;
  }
  clearError("key");
  return true;
}

async function run() {
  if (running) return;
  clearErrors();
  clearTimeout(waiting);
  setApiKey(node("key").value);
  const missing = photograph ? null : showError("image", () => text("noPhotograph"));
  const fault = missing ?? firstFault();
  if (fault) {
    fault.focus();
    return;
  }
  running = new AbortController();
  if (!hasModels() && !(await findModels())) {
    running = null;
    return;
  }
  const chosen = photographs;
  for (const [k, each] of chosen.entries()) {
    photograph = each;
    place = chosen.length > 1 ? { k: k + 1, count: chosen.length } : null;
    if (!(await editShown())) break;
  }
  end();
}

// Edit the photograph that is shown; tells whether that went well.
async function editShown() {
  const { file } = photograph;
  const fields = fieldsOf(photograph);
  const painting = paintingOf(photograph);
  const title = wording();
  const started = performance.now();
  begin(title);
  try {
    const mask = await maskOf(photograph);
    const made = await edit({ file, mask, fields }, running.signal, {
      start: () => say("working"),
      preview: (blob, k) => {
        showPreview(blob, k);
        say("preview", { k: k + 1, n: PREVIEWS });
      },
    });
    finish({ fields, painting, title }, made, ((performance.now() - started) / 1000).toFixed(1));
    return true;
  } catch (error) {
    restore();
    if (error.name === "AbortError") say("cancelled");
    else refuse(error);
    return false;
  }
}

function begin(instruction) {
  showRunning(shapeOf(photograph), instruction);
  say("sending");
  if (document.activeElement === node("edit")) node("cancel").focus();
  node("print").scrollIntoView();
}

function end() {
  running = null;
  place = null;
  const held = [node("cancel"), document.body].includes(document.activeElement);
  if (held) node("edit").focus({ preventScroll: true });
}

function finish(asked, made, seconds) {
  const stems = `${stem(photograph.name)}-${stem(asked.title)}`;
  for (const [k, done] of [...made.entries()].reverse()) { // the first is shown in the end
    const name = made.length > 1 ? `${stems}-${k + 1}.png` : `${stems}.png`;
    const url = URL.createObjectURL(done.blob);
    result = { photograph, ...asked, ...done, url, seconds, name, steps: steps() };
    addToStrip(result, pick);
  }
  showResult(result, true);
  say("done", { seconds });
  updateRequest();
}

function pick(chosen) {
  if (running) return;
  result = chosen;
  photograph = chosen.photograph;
  photographs = [photograph];
  showResult(chosen, false);
  updateRequest();
}

// A file name's part: "a b.jpg" -> "a-b".
function stem(name) {
  return name.replace(/\.\w+$/, "").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 40);
}

function restore() {
  if (result) showResult(result, false);
  else showPhotograph(photograph);
}

// Between the photograph to paint over and what was shown before.
function togglePainting() {
  if (running) return;
  if (isPainting()) restore();
  else showPhotograph(photograph, true);
}

// For the code to copy.
async function saveMask() {
  const link = document.createElement("a");
  try {
    link.href = URL.createObjectURL(await maskOf(photograph));
  } catch (error) {
    return refuse(error);
  }
  link.download = MASK_NAME;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function refuse(error) {
  if (error instanceof Unusable) return showError("mask", () => error.reason()).focus();
  if (!(error instanceof Refused)) throw error;
  say("");
  const hadKey = hasApiKey();
  if (error.status === 401) node("key-field").hidden = false;
  if ([429, 503].includes(error.status) && error.retryAfter > 0) return wait(error.retryAfter);
  showError(placeOf(error), () => reasonOf(error, hadKey)).focus();
}

// A busy server said when there may be room: so does the page, then and there.
function wait(seconds) {
  showError("general", () => text("busy", { seconds: Math.ceil(seconds) }));
  waiting = setTimeout(() => showError("general", () => text("free")), seconds * 1000);
}

// The code to copy: of the shown edit, with its seed, while the panel still says the same.
function updateRequest() {
  const fields = fieldsOf(photograph);
  const painting = paintingOf(photograph);
  const same = result && result.painting === painting
    && JSON.stringify(fields) === JSON.stringify(result.fields);
  if (same && result.seed !== undefined) fields.seed ??= String(result.seed);
  if (!node("prompt").disabled) fields.prompt ||= texts("ideasList")[0];
  const name = photograph?.name ?? "photo.jpg";
  showRequest({ fields, name, masked: painting !== null, key: hasApiKey() });
}

buildSliders(node("sliders"));
installLanguage(node("language"));
onLanguage(() => (node("status").textContent = said()));
installErrors();
installStage();
installComparison();
installBrush(updateRequest);
installForm(updateRequest);
installModels(updateRequest);
installRequest();
installSources(choose);
node("form").addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
node("cancel").addEventListener("click", () => running?.abort());
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  running?.abort();
  if (isPainting()) togglePainting();
});
node("paint").addEventListener("click", togglePainting);
node("save-mask").addEventListener("click", saveMask);
node("reuse").addEventListener("click", () => {
  setSeed(result.seed);
  updateRequest();
});
node("further").addEventListener("click", () => {
  choose([new File([result.blob], result.name, { type: result.blob.type })]);
});
findModels();
