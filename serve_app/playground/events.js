// Server-sent events out of a response's body, as they arrive.

// Yields { event, data } with `data` parsed as JSON; comments and "[DONE]" are passed over. A
// connection that breaks ends it early.
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = []; // of an event that has not ended: an image comes in thousands of chunks
  try {
    for (;;) {
      const { value, done } = await reader.read().catch(broken);
      if (done) return;
      rest.push(value);
      if (!value.includes("\n")) continue;
      const blocks = rest.join("").split(/\r?\n\r?\n/);
      rest = [blocks.pop()];
      for (const block of blocks) {
        const parsed = parse(block);
        if (parsed) yield parsed;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function broken(error) {
  if (error.name === "AbortError") throw error; // the reader's own wish
  return { done: true };
}

function parse(block) {
  const lines = block.split(/\r?\n/);
  const of = (field) =>
    lines.filter((line) => line.startsWith(`${field}:`))
      .map((line) => line.slice(field.length + 1).replace(/^ /, "")).join("\n");
  const data = of("data");
  return data && data !== "[DONE]" ? { event: of("event"), data: JSON.parse(data) } : null;
}

export function base64ToBlob(base64, format) {
  const characters = atob(base64);
  const bytes = new Uint8Array(characters.length);
  for (let k = 0; k < bytes.length; k++) bytes[k] = characters.charCodeAt(k);
  return new Blob([bytes], { type: `image/${format}` });
}
