// What the reader chooses: kept in this browser, sent with each request where it differs from the server's defaults.

import { byId, element } from "./dom.js";

const STORE = "bindchat.settings";
const FIELDS = [
  { name: "key", label: "API key", type: "password", hint: "kept in this browser only" },
  { name: "temperature", label: "Temperature", type: "number", min: 0, max: 2, step: 0.1, hint: "empty: the server's" },
  { name: "top_p", label: "Top p", type: "number", min: 0.05, max: 1, step: 0.05, hint: "empty: the server's" },
  { name: "max_tokens", label: "Longest answer, tokens", type: "number", min: 1, step: 1, hint: "empty: the server's" },
  { name: "seed", label: "Seed", type: "number", step: 1, hint: "empty: a new one each time" },
  { name: "scope", label: "Media that count", type: "select", options: { latest: "the latest message with media", all: "every medium of the conversation" } },
  { name: "cache", label: "Visual cache", type: "select", options: { "": "the server's choice", on: "on", off: "off" } },
  { name: "cache_k", label: "Neighbours (k)", type: "number", min: 1, max: 100, step: 1, hint: "of the visual cache" },
  { name: "cache_inverse_temperature", label: "Inverse temperature", type: "number", min: 0, step: 1, hint: "of the visual cache" },
  { name: "cache_blend", label: "Blend", type: "number", min: 0, max: 1, step: 0.05, hint: "0 keeps the embedding, 1 takes the neighbours" },
];

export function readSettings() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? {};
  } catch {
    return {};
  }
}

function write(name, value) {
  localStorage.setItem(STORE, JSON.stringify({ ...readSettings(), [name]: value }));
}

function control(field, value, onChange) {
  const id = `setting-${field.name}`;
  const save = (event) => {
    if (!event.target.reportValidity()) return;
    write(field.name, event.target.value);
    onChange();
  };
  if (field.type === "select") {
    const options = Object.entries(field.options).map(([key, text]) => element("option", { value: key, selected: key === value }, text));
    return element("select", { id, change: save }, ...options);
  }
  const { type, min, max, step } = field;
  return element("input", { id, type, min, max, step, value: value ?? "", autocomplete: "off", change: save });
}

/** Fill the settings dialog; `onChange` hears of every change. */
export function showSettings(onChange) {
  const stored = readSettings();
  const rows = FIELDS.map((field) =>
    element(
      "div",
      { class: "field" },
      element("label", { for: `setting-${field.name}` }, field.label),
      control(field, stored[field.name], onChange),
      element("small", {}, field.hint ?? ""),
    ),
  );
  byId("setting-fields").replaceChildren(...rows);
}

/** Return the request's parameters that the settings ask for. */
export function requestFields() {
  const stored = readSettings();
  const number = (name) => (stored[name] === undefined || stored[name] === "" ? undefined : Number(stored[name]));
  const cache = {};
  if (stored.cache) cache.enabled = stored.cache === "on";
  for (const name of ["k", "inverse_temperature", "blend"]) {
    if (number(`cache_${name}`) !== undefined) cache[name] = number(`cache_${name}`);
  }
  const bind = { trace: true, scope: stored.scope || "latest", ...(Object.keys(cache).length ? { cache } : {}) };
  const fields = { bind };
  for (const name of ["temperature", "top_p", "max_tokens", "seed"]) {
    if (number(name) !== undefined) fields[name] = number(name);
  }
  return fields;
}
