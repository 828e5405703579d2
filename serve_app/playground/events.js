// Server-sent events out of a response's body, as they arrive.

// Yields { event, data } with `data` parsed as JSON; comments and "[DONE]" are passed over. A
// connection that breaks ends it early.
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch(broken);
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
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
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: `image/${format}` });
}
