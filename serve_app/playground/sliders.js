// The sliders of the panel: scales that some models have and others do not.

// Option -> its range on the page, the bound of the API (`most`), its label and hint, and what it is
// where a model names no default (`plain`).
export const SLIDERS = {
  guidance_scale: { min: 0, max: 15, most: 20, step: 0.1, words: "strength" },
  image_guidance_scale: { min: 0, max: 3, most: 5, step: 0.1, words: "faithfulness" },
  true_cfg_scale: { min: 1, max: 10, most: 20, step: 0.1, words: "insistence", plain: 1 },
  strength: { min: 0.05, max: 1, most: 1, step: 0.05, words: "departure", plain: 1 },
  controlnet_conditioning_scale: { min: 0, max: 2, most: 2, step: 0.05, words: "edges", plain: 1 },
};

// `value` of a slider as it is shown.
export function shown(name, value) {
  return Number(value).toFixed(SLIDERS[name].step < 0.1 ? 2 : 1);
}

function made(tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("data-") || name === "for") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

function field(name, { min, max, step, words }) {
  const slider = made("input", { type: "range", id: name, name });
  for (const [bound, value] of Object.entries({ min, max, step })) slider.setAttribute(bound, value);
  slider.setAttribute("aria-describedby", `hint-${name} error-${name}`);
  const reset = { type: "button", className: "quiet", id: `reset-${name}`, hidden: true };
  const error = made("p", { className: "error", id: `error-${name}` });
  error.setAttribute("role", "alert");
  return made("div", { className: "field" },
    made("label", { for: name, "data-text": words }),
    made("span", { className: "value" },
      made("button", { ...reset, "data-text": "reset" }),
      made("output", { for: name })),
    slider,
    made("p", { className: "note", id: `hint-${name}` },
      made("span", { "data-text": `${words}Hint` }),
      made("span", { id: `standard-${name}` })),
    error);
}

// Before the language is set: it fills in the words.
export function buildSliders(place) {
  place.replaceChildren(...Object.entries(SLIDERS).map(([name, about]) => field(name, about)));
}
