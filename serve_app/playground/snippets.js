// The request of the page as code to run elsewhere.

export const MASK_NAME = "mask.png";

// `fields`: { prompt, seed, ... } as they are sent; `name`: of the photograph's file; `masked`: with
// a mask beside it.
export function curl({ fields, name, masked, origin, key }) {
  const lines = ["curl -sS --fail-with-body -o answer.json", `  ${origin}/v1/images/edits`];
  if (key) lines.push(`  -H "Authorization: Bearer $RAYEDIT_API_KEY"`);
  lines.push(`  -F ${shell(`image=@"${name.replace(/[\\"]/g, "\\$&")}"`)}`);
  if (masked) lines.push(`  -F mask=@"${MASK_NAME}"`);
  for (const [field, value] of Object.entries(fields)) {
    // --form-string: an instruction may begin with @ or <, which -F would read as a file
    lines.push(field === "prompt" ? `  --form-string ${shell(`prompt=${value}`)}`
      : `  -F ${field}=${value}`);
  }
  lines.push(`  && grep -o '"b64_json":"[^"]*' answer.json`, `  | cut -d '"' -f 4`, "  | base64 --decode > edited.png");
  return lines.join(" \\\n");
}

export function python({ fields, name, masked, origin, key }) {
  const { prompt, model, size, ...ours } = fields;
  const lines = [
    ...(key ? ["import os"] : []),
    "import base64",
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${origin}/v1", api_key=${key ? 'os.environ["RAYEDIT_API_KEY"]' : '"none"'})`,
    "edited = client.images.edit(",
    `    image=open(${JSON.stringify(name)}, "rb"),`,
    ...(masked ? [`    mask=open("${MASK_NAME}", "rb"),`] : []),
    `    prompt=${JSON.stringify(prompt)},`,
  ];
  if (model) lines.push(`    model=${JSON.stringify(model)},`);
  if (size) lines.push(`    size="${size}",`);
  const extra = Object.entries(ours).map(([field, value]) => `"${field}": ${literal(value)}`);
  if (extra.length) lines.push(`    extra_body={${extra.join(", ")}},`);
  lines.push(")", 'with open("edited.png", "wb") as file:',
    "    file.write(base64.b64decode(edited.data[0].b64_json))");
  return lines.join("\n");
}

function shell(value) {
  return `'${value.replaceAll("'", "'\\''")}'`;
}

function literal(value) {
  if (["true", "false"].includes(value)) return value === "true" ? "True" : "False";
  return Number.isNaN(Number(value)) ? JSON.stringify(value) : String(Number(value));
}
