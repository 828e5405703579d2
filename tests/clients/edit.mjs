// The same edit by each client for Node: prints {client: its picture in base64}.
// node edit.mjs BASE_URL PHOTOGRAPH MASK PROMPT
import { createReadStream, readFileSync } from "node:fs";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage } from "ai";
import OpenAI, { toFile } from "openai";

const [baseURL, photograph, maskFile, prompt] = process.argv.slice(2);
const model = "gpt-image-1"; // an alias
const apiKey = "none";
const image = readFileSync(photograph);
const mask = readFileSync(maskFile);
const made = {};

const node = new OpenAI({ baseURL, apiKey });
const file = () => toFile(createReadStream(photograph), "photo.jpg", { type: "image/jpeg" });
const asked = async () => ({ model, prompt, image: await file(), seed: 7 });
made["openai-node"] = (await node.images.edit(await asked())).data[0].b64_json;

const masked = { ...(await asked()), mask: await toFile(mask, "mask.png", { type: "image/png" }) };
made["openai-node, mask"] = (await node.images.edit(masked)).data[0].b64_json;

const events = await node.images.edit({ ...(await asked()), stream: true, partial_images: 1 });
for await (const event of events) {
  if (event.type === "image_edit.completed") made["openai-node, stream"] = event.b64_json;
}

const providers = {
  "ai-sdk openai": createOpenAI({ baseURL, apiKey }).image(model),
  "ai-sdk compatible": createOpenAICompatible({ name: "rayedit", baseURL, apiKey }).imageModel(model),
};
for (const [name, provider] of Object.entries(providers)) {
  const { images } = await generateImage({ model: provider, prompt: { text: prompt, images: [image] } });
  made[name] = images[0].base64;
}

try {
  await node.images.edit({ ...(await asked()), model: "gpt-image-9" });
} catch (error) {
  made["openai-node, error"] = `${error.constructor.name} ${error.code}`;
}
console.log(JSON.stringify(made));
