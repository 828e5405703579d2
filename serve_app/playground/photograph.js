// A photograph that the reader chose: checked by its content, decoded by the browser.

import { text } from "./language.js";

const MIB = 2 ** 20;
const LIMIT = Number(document.querySelector('meta[name="max-body-bytes"]').content);
const REST = 4096; // of the request's other fields

// `reason()`: why, in the page's language.
export class Unusable extends Error {
  constructor(reason) {
    super(reason());
    this.reason = reason;
  }
}

// { file, url, name, width, height } of `file`; throws `Unusable`.
export async function readPhotograph(file) {
  if (file.size + REST > LIMIT) {
    const sizes = { size: (file.size / MIB).toFixed(1), limit: (LIMIT / MIB).toFixed(1) };
    throw new Unusable(() => text("tooLarge", { name: file.name, ...sizes }));
  }
  if (!kindOf(new Uint8Array(await file.slice(0, 12).arrayBuffer()))) {
    throw new Unusable(() => text("noImage", { name: file.name }));
  }
  const url = URL.createObjectURL(file);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url);
    throw new Unusable(() => text("noImage", { name: file.name }));
  }
  return { file, url, name: file.name, width: image.naturalWidth, height: image.naturalHeight };
}

// By the first bytes, as the server does; a name proves nothing.
function kindOf(bytes) {
  const ascii = String.fromCharCode(...bytes);
  if (ascii.startsWith("\xff\xd8\xff")) return "jpeg";
  if (ascii.startsWith("\x89PNG\r\n\x1a\n")) return "png";
  if (ascii.startsWith("RIFF") && ascii.slice(8) === "WEBP") return "webp";
  return null;
}
