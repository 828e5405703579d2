// Before and after on one frame, split by a line that pointer and arrow keys move.

import { onLanguage, text } from "./language.js";

const frame = document.getElementById("frame");
const range = document.getElementById("split");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// `percent` of the width shows the original, from the left.
function place(percent) {
  const bounded = Math.min(100, Math.max(0, percent));
  range.value = String(Math.round(bounded));
  frame.style.setProperty("--split", `${bounded}%`);
  frame.classList.toggle("no-before", bounded < 12);
  frame.classList.toggle("no-after", bounded > 88);
  describe();
}

function describe() {
  range.setAttribute("aria-valuetext", text("compared", { percent: 100 - Number(range.value) }));
}

// A new result: the edit wipes over the original, then rests half-way.
export function reveal() {
  place(50);
  if (calm.matches) return;
  frame.classList.remove("reveal");
  void frame.offsetWidth; // restarts the animation
  frame.classList.add("reveal");
}

function follow(event) {
  const box = frame.getBoundingClientRect();
  place((100 * (event.clientX - box.left)) / box.width);
}

export function installComparison() {
  frame.addEventListener("pointerdown", (event) => {
    if (document.documentElement.dataset.state !== "done" || event.button !== 0) return;
    event.preventDefault(); // no dragging of the picture itself
    frame.classList.remove("reveal");
    frame.setPointerCapture(event.pointerId);
    range.focus({ preventScroll: true });
    follow(event);
  });
  frame.addEventListener("pointermove", (event) => {
    if (frame.hasPointerCapture(event.pointerId)) follow(event);
  });
  range.addEventListener("input", () => {
    frame.classList.remove("reveal");
    place(Number(range.value));
  });
  onLanguage(describe);
}
