// Where a photograph comes from: the file picker, a drop, a paste, the examples.

import { onLanguage, texts } from "./language.js";

const EXAMPLES = ["coffee", "chelsea", "rocket", "astronaut"];
const node = (id) => document.getElementById(id);

// `choose(files)` for all that arrive together; they may be no photographs at all.
export function installSources(choose) {
  const chooseAll = (files) => files?.length && choose([...files]);
  node("file").addEventListener("change", async () => {
    await chooseAll(node("file").files);
    node("file").value = ""; // the same file may be chosen again
  });
  addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData;
    if (!types.includes("text/plain")) chooseAll(files); // office programs add a picture of it
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    chooseAll(event.dataTransfer?.files);
  });
  onLanguage(() => {
    node("examples").replaceChildren(...EXAMPLES.map((name) => example(name, choose)));
  });
}

function example(name, choose) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const image = document.createElement("img");
  button.type = "button";
  image.src = `playground/photographs/${name}.jpg`;
  image.alt = texts("examples")[name];
  button.append(image);
  button.addEventListener("click", async () => {
    const blob = await (await fetch(image.src)).blob();
    await choose([new File([blob], `${name}.jpg`, { type: blob.type })]);
    node("prompt").focus({ preventScroll: true });
  });
  item.append(button);
  return item;
}
