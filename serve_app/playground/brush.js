// The brush: the reader paints over the photograph what the edit may change.

import { clearError } from "./errors.js";
import { text } from "./language.js";
import { Unusable } from "./photograph.js";

const node = (id) => document.getElementById(id);
const canvas = node("mask");
const tip = node("tip");
const page = canvas.getContext("2d");
const SHOWN_PX = 1600; // long side of the tint on the page; what is sent is drawn anew

// photograph -> its last stroke: { diameter, points, before } in px of the photograph, `before` the
// stroke before it. No stroke is ever altered: the same one means the same painting.
const paintings = new WeakMap();

let photograph = null;
let stroke = null; // the one that is being painted
let changed = () => {};

// What is painted over `photograph`; null: nothing.
export function paintingOf(photograph) {
  return paintings.get(photograph) ?? null;
}

// The tint over `shown`, as far as it is painted.
export function showPainting(shown) {
  photograph = shown;
  stroke = null;
  tip.hidden = true;
  const scale = SHOWN_PX / Math.max(shown.width, shown.height);
  canvas.width = Math.max(1, Math.round(shown.width * scale));
  canvas.height = Math.max(1, Math.round(shown.height * scale));
  redraw();
}

// The API's mask: a PNG as large as the photograph, transparent where it is painted, opaque
// elsewhere. Null where nothing is painted; throws `Unusable`.
export async function maskOf(photograph) {
  const painting = paintingOf(photograph);
  if (!painting) return null;
  const { width, height } = photograph;
  const sheet = Object.assign(document.createElement("canvas"), { width, height });
  const context = sheet.getContext("2d");
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "destination-out";
  draw(context, painting);
  const blob = await new Promise((resolve) => sheet.toBlob(resolve, "image/png"));
  if (!blob) throw new Unusable(() => text("maskTooLarge", { size: `${width} × ${height}` }));
  return blob;
}

function draw(context, painting) {
  for (let each = painting; each; each = each.before) trace(context, each, 0);
}

// A stroke from its point number `first` on.
function trace(context, { diameter, points }, first) {
  context.lineWidth = diameter;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  const [x, y] = points[first];
  context.moveTo(x, y);
  context.lineTo(x + 0.01, y); // a single point is a dot: a line without length is not drawn
  for (const point of points.slice(first + 1)) context.lineTo(...point);
  context.stroke();
}

function redraw() {
  const painting = paintingOf(photograph);
  page.resetTransform();
  page.clearRect(0, 0, canvas.width, canvas.height);
  page.scale(canvas.width / photograph.width, canvas.height / photograph.height);
  page.strokeStyle = getComputedStyle(canvas).color;
  draw(page, painting);
  node("undo").disabled = node("clear").disabled = !painting;
}

function become(painting) {
  paintings.set(photograph, painting);
  redraw();
  clearError("mask");
  changed();
}

// Px of the photograph: a share of its shorter side.
function diameter() {
  return (Number(node("brush").value) / 100) * Math.min(photograph.width, photograph.height);
}

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * photograph.width,
          ((event.clientY - box.top) / box.height) * photograph.height];
}

// The brush's outline around a point.
function showTip([x, y]) {
  tip.hidden = false;
  tip.style.left = `${(100 * x) / photograph.width}%`;
  tip.style.top = `${(100 * y) / photograph.height}%`;
  tip.style.width = `${(100 * diameter()) / photograph.width}%`;
}

function begin(event) {
  if (!event.isPrimary || event.button !== 0) return;
  event.preventDefault(); // no selecting, no dragging
  canvas.setPointerCapture(event.pointerId);
  const before = paintingOf(photograph);
  stroke = { diameter: diameter(), points: [pointOf(event)], before };
  trace(page, stroke, 0);
  showTip(stroke.points[0]);
}

function move(event) {
  if (!event.isPrimary) return;
  showTip(pointOf(event));
  if (!stroke) return;
  const drawn = stroke.points.length - 1;
  const events = event.getCoalescedEvents?.() ?? [];
  stroke.points.push(...(events.length ? events : [event]).map(pointOf));
  trace(page, stroke, drawn);
}

function end(event) {
  if (!stroke || !event.isPrimary) return;
  const painted = stroke;
  stroke = null;
  become(painted);
  if (event.pointerType === "touch") tip.hidden = true;
}

function cancel(event) { // two fingers zoom: what the first has painted was not meant
  if (!event.isPrimary) return;
  stroke = null;
  tip.hidden = true;
  redraw();
}

// `onChange()` after every stroke, undo and clear.
export function installBrush(onChange) {
  changed = onChange;
  canvas.addEventListener("pointerdown", begin);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", cancel);
  canvas.addEventListener("pointerleave", () => (tip.hidden = true));
  node("brush").addEventListener("input", () => {
    showTip([photograph.width / 2, photograph.height / 2]); // how large it is now
  });
  node("brush").addEventListener("blur", () => (tip.hidden = true));
  node("undo").addEventListener("click", () => takeBack(paintingOf(photograph).before));
  node("clear").addEventListener("click", () => takeBack(null));
}

function takeBack(painting) {
  become(painting);
  if (!painting) node("brush").focus({ preventScroll: true }); // the buttons cannot keep the focus
}
