// Predicts one row in the browser: a form from bundle.json, and model.onnx by the onnxruntime-web beside this file.
import * as ort from "./web/ort.wasm.min.mjs";

const EDGE_FORMAT = 1;
const FLOAT32_MAX = 3.4028234663852886e38;
const at = (id) => document.getElementById(id);

class BadInput extends Error {}

async function read(name) {
  const reply = await fetch(new URL(name, import.meta.url));
  if (!reply.ok) throw new Error(`${name} cannot be read: HTTP ${reply.status}`);
  return new Uint8Array(await reply.arrayBuffer());
}

// Browsers hash only where the page came over https or from this machine; elsewhere that is said on the page.
async function verify(graph, wanted) {
  if (!globalThis.crypto?.subtle) return false;
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", graph));
  const found = Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== wanted) throw new Error("model.onnx is not what was exported; copy the folder again");
  return true;
}

function make(tag, attributes = {}, text = "") {
  const element = Object.assign(document.createElement(tag), attributes);
  if (text) element.textContent = text;
  return element;
}

function control(item, number, example) {
  if (item.dtype === "bool" && !item.shape.length) {
    const choice = make("select", { name: item.name });
    for (const word of item.nullable ? ["", "false", "true"] : ["false", "true"]) choice.append(make("option", { value: word }, word));
    choice.value = example === null ? "" : String(example);
    return [choice];
  }
  if (item.shape.length) return [make("textarea", { name: item.name, rows: 3, value: JSON.stringify(example) })];
  const field = make("input", { name: item.name, value: example === null ? "" : String(example), autocomplete: "off" });
  if (item.dtype !== "string") field.inputMode = item.dtype === "int64" ? "numeric" : "decimal";
  if (!item.categories.length) return [field];
  const known = make("datalist", { id: `known-${number}` });
  for (const word of item.categories) known.append(make("option", { value: word }));
  field.setAttribute("list", known.id);
  return [field, known];
}

const short = (number) => Number(number.toPrecision(4));

function hint(item) {
  const words = [item.shape.length ? `a JSON list in the shape ${item.shape.join(" × ")}` : item.dtype];
  if (item.low !== null && item.high !== null) words.push(`training saw ${short(item.low)} to ${short(item.high)}`);
  if (item.nullable) words.push("may be left empty");
  return words.join("; ");
}

function show(about) {
  document.title = about.model;
  at("name").textContent = about.model;
  about.inputs.forEach((item, number) => {
    const label = make("label");
    label.append(make("span", {}, item.name), ...control(item, number, about.example[item.name]), make("small", {}, hint(item)));
    at("inputs").append(label);
  });
}

// The value of one field in its input's type; null where it is empty and may be.
function parse(item, text) {
  if (item.shape.length) return parseShape(item, text);
  if (item.dtype === "string") return text === "" && item.nullable ? null : text;
  const word = text.trim();
  if (word === "") {
    if (item.nullable) return null;
    throw new BadInput(`${item.name}: is missing, and training never saw it missing`);
  }
  if (item.dtype === "bool") return word === "true";
  if (item.dtype === "int64") {
    if (!/^[+-]?\d+$/.test(word)) throw new BadInput(`${item.name}: takes a whole number, not "${word}"`);
    const whole = BigInt(word.replace("+", ""));
    if (BigInt.asIntN(64, whole) !== whole) throw new BadInput(`${item.name}: ${word} does not fit 64 bits`);
    return whole;
  }
  return parseNumber(item, word);
}

function parseNumber(item, word) {
  const number = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(word) ? Number(word) : NaN;
  if (!Number.isFinite(number)) throw new BadInput(`${item.name}: takes a number, not "${word}"`);
  return number;
}

function parseShape(item, text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new BadInput(`${item.name}: takes a JSON list`);
  }
  const flat = [];
  const walk = (part, depth) => {
    if (depth === item.shape.length) return void flat.push(part);
    if (!Array.isArray(part) || part.length !== item.shape[depth]) throw new BadInput(`${item.name}: takes the shape ${item.shape.join(" × ")}`);
    part.forEach((inner) => walk(inner, depth + 1));
  };
  walk(value, 0);
  const wanted = item.dtype === "string" ? "string" : item.dtype === "bool" ? "boolean" : "number";
  if (flat.some((one) => typeof one !== wanted)) throw new BadInput(`${item.name}: takes values of the type ${item.dtype}`);
  return flat;
}

function array(element, values, names) {
  const number = (value) => (value === null ? NaN : Number(value));
  switch (element) {
    case "object": return values.map((value) => value ?? "");
    case "bool": return Uint8Array.from(values, (value) => (value ? 1 : 0));
    case "int64": return BigInt64Array.from(values, (value) => BigInt(value));
    case "int32": return Int32Array.from(values, Number);
    case "float64": return Float64Array.from(values, number);
    case "float32":
      values.forEach((value, place) => {
        if (Math.abs(number(value)) > FLOAT32_MAX) throw new BadInput(`${names[place] ?? names[0]}: is too large for float32`);
      });
      return Float32Array.from(values, number);
    default: throw new Error(`the graph takes ${element}, which this page does not know`);
  }
}

const TYPES = { object: "string" };

function feed(about, row) {
  const shapes = Object.fromEntries(about.inputs.map((item) => [item.name, item.shape]));
  return Object.fromEntries(about.feeds.map((part) => {
    const values = part.inputs.flatMap((name) => row[name]);
    const missing = part.inputs.find((name) => row[name] === null);
    if (missing !== undefined && !part.element.startsWith("float") && part.element !== "object") throw new BadInput(`${missing}: is missing`);
    const shape = shapes[part.inputs[0]];
    const dims = part.matrix ? [1, values.length] : shape.length ? [1, ...shape] : part.rank === 2 ? [1, 1] : [1];
    return [part.tensor, new ort.Tensor(TYPES[part.element] ?? part.element, array(part.element, values, part.inputs), dims)];
  }));
}

function told(about, name, values) {
  if (name === "probabilities" && values.length === about.classes.length) return values.map((value, place) => `${about.classes[place]}: ${value}`).join("\n");
  return values.map(String).join(", ");
}

function answer(about, outputs) {
  at("answer").replaceChildren();
  for (const { name } of about.outputs) {
    const value = make("dd", {}, told(about, name, Array.from(outputs[name].data)));
    value.dataset.output = name;
    at("answer").append(make("dt", {}, name), value);
  }
}

async function predict(about, session) {
  at("error").textContent = "";
  at("answer").replaceChildren();
  try {
    const fields = new FormData(at("form"));
    const row = Object.fromEntries(about.inputs.map((item) => [item.name, parse(item, String(fields.get(item.name)))]));
    answer(about, await session.run(feed(about, row)));
  } catch (error) {
    at("error").textContent = error instanceof BadInput ? error.message : `The model failed: ${error.message ?? error}`;
  }
}

try {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("./web/", import.meta.url).href;
  const about = JSON.parse(new TextDecoder().decode(await read("bundle.json")));
  if (about.edge_format !== EDGE_FORMAT) throw new Error(`bundle.json has the form ${about.edge_format}, and this page knows ${EDGE_FORMAT}`);
  const graph = await read("model.onnx");
  const verified = await verify(graph, about.files["model.onnx"]);
  const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  show(about);
  at("form").addEventListener("submit", (event) => {
    event.preventDefault();
    predict(about, session);
  });
  at("form").hidden = false;
  at("state").textContent = verified ? "Ready." : "Ready; the model's digest was not compared, as browsers do so only over https.";
} catch (error) {
  at("state").textContent = "";
  at("error").textContent = error.message ?? String(error);
}
