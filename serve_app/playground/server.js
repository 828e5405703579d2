// The way to the server: which models it serves, and one edit with its previews.

import { base64ToBlob, readEvents } from "./events.js";
import { MASK_NAME } from "./snippets.js";

const EDITS = "v1/images/edits";
export const PREVIEWS = 3;

let apiKey = "";
let streams = true; // until the server says that it cannot

export function setApiKey(key) {
  apiKey = key.trim();
}

export function hasApiKey() {
  return apiKey !== "";
}

// `code`, `message`, `param` as the API documents them; status 0: no answer came.
export class Refused extends Error {
  constructor(status, error, retryAfter) {
    super(error.message ?? "");
    this.status = status;
    this.code = error.code ?? "";
    this.param = error.param ?? "";
    this.retryAfter = retryAfter; // seconds, or NaN
  }
}

// The served models, with their defaults; the first edits where none is named.
export async function fetchModels() {
  const answer = await send("v1/models", {});
  return (await answer.json()).data;
}

// [{ blob, seed, size, report, warnings, understood }] of the images asked for; `mask`: a PNG, or null.
// Before, `on.start()` is called when the server has the photograph, `on.preview(blob, k)` perhaps.
export async function edit({ file, mask, fields }, signal, on) {
  const extra = streams ? { stream: "true", partial_images: String(PREVIEWS) } : {};
  try {
    const body = form(file, mask, { ...fields, ...extra });
    const answer = await send(EDITS, { method: "POST", body, signal });
    on.start();
    return await read(answer, Number(fields.n ?? 1), on.preview);
  } catch (error) {
    if (!streams || !["stream", "partial_images"].includes(error.param)) throw error;
    streams = false;
    return edit({ file, mask, fields }, signal, on);
  }
}

function form(file, mask, fields) {
  const data = new FormData();
  data.append("image", file, file.name);
  if (mask) data.append("mask", mask, MASK_NAME);
  for (const [name, value] of Object.entries(fields)) data.append(name, value);
  return data;
}

async function send(path, init) {
  if (/[^\x20-\x7e]/.test(apiKey)) throw new Refused(401, {}, NaN); // no header can carry it
  const headers = apiKey ? { authorization: `Bearer ${apiKey}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...init, headers });
  } catch (error) {
    throw lost(error);
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

function lost(error) {
  return error.name === "AbortError" ? error : new Refused(0, {}, NaN);
}

async function refusal(answer) {
  const seconds = Number.parseFloat(answer.headers.get("retry-after"));
  try {
    return new Refused(answer.status, (await answer.json()).error ?? {}, seconds);
  } catch {
    return new Refused(answer.status, {}, seconds); // not ours: a proxy in between
  }
}

async function read(answer, count, onPreview) {
  const kind = answer.headers.get("content-type") ?? "";
  if (!kind.startsWith("text/event-stream")) {
    const body = await answer.json().catch((error) => { throw lost(error); });
    return body.data.map((image) => finished({ ...body, ...image }));
  }
  const images = [];
  for await (const { data } of readEvents(answer.body)) {
    if (data.error) throw new Refused(answer.status, data.error, NaN);
    if (data.type === "image_edit.partial_image") {
      onPreview(base64ToBlob(data.b64_json, data.output_format), data.partial_image_index);
    } else if (data.type === "image_edit.completed") {
      images.push(finished(data));
      if (images.length === count) return images;
    }
  }
  throw new Refused(0, {}, NaN); // the stream broke off
}

function finished({ b64_json, output_format, ...rest }) {
  const { seed, size, edit_report: report, warnings, understood_as: understood } = rest;
  const blob = base64ToBlob(b64_json, output_format);
  return { blob, seed, size, report, warnings, understood };
}
