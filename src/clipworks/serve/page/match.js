"use strict";

const find = (id) => document.getElementById(id);
let image = null; // the file, as it is sent
let models = [];

function say(text, wrong) {
  find("said").textContent = text;
  find("said").className = wrong ? "wrong" : "quiet";
}

function headers() {
  const key = find("key").value;
  return key ? { Authorization: "Bearer " + key } : {};
}

async function ask(path, options) {
  const answer = await fetch(path, { ...options, headers: headers() });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error ? body.error.message : "the server answers " + answer.status);
  return { body, answer };
}

function describe(model) {
  const used = model.ready ? `${model.runtime}, ${model.device}, ${model.precision}` : "being opened";
  return `${model.id} on ${used}`;
}

async function readModels() {
  try {
    models = (await ask("v1/models", {})).body.data;
    find("about").textContent = models.map(describe).join(" · ");
    find("model").replaceChildren(...models.map((model) => new Option(model.id, model.id)));
  } catch (error) {
    find("about").textContent = error.message;
    find("more").open = true;
  }
}

async function show(file) {
  if (!file) return;
  image = file;
  find("run").disabled = false;
  find("drop-text").textContent = file.name || "pasted image";
  const preview = find("preview");
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, 640 / Math.max(bitmap.width, bitmap.height));
    preview.width = Math.max(1, Math.round(bitmap.width * scale));
    preview.height = Math.max(1, Math.round(bitmap.height * scale));
    preview.getContext("2d").drawImage(bitmap, 0, 0, preview.width, preview.height);
    preview.hidden = false;
  } catch {
    preview.hidden = true; // the server may read what this browser does not
  }
  await run();
}

function list() {
  return find("texts").value.split("\n").map((line) => line.trim()).filter(Boolean);
}

async function run() {
  const texts = list();
  const set = find("set").value;
  if (!image) return say("No image yet.");
  if (!set && !texts.length) return say("No text yet.");
  const form = new FormData();
  form.append("image", image, "image");
  if (find("model").value) form.append("model", find("model").value);
  for (const label of set ? [set] : texts) form.append("labels", label);
  form.append("templates", find("template").value);
  form.append("top_k", set ? "10" : String(texts.length));
  say("asking…");
  find("run").disabled = true;
  const begin = performance.now();
  try {
    const { body, answer } = await ask("v1/classify", { method: "POST", body: form });
    const taken = performance.now() - begin;
    draw(body);
    tell(body, answer, taken);
    say(body.score_kind === "softmax" ? "The scores of all classes add up to 100%." : "Each text is scored by itself.");
  } catch (error) {
    find("scores").replaceChildren();
    find("facts").hidden = true;
    say(error.message, true);
  } finally {
    find("run").disabled = false;
  }
}

function part(name, kind, text) {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  if (text !== undefined) element.textContent = text;
  return element;
}

function draw(body) {
  const rows = body.data[0].classes.map((one) => {
    const row = part("li");
    const bar = part("meter");
    bar.value = one.score;
    bar.setAttribute("aria-hidden", "true");
    row.append(part("span", "name", one.label), part("span", "value", (100 * one.score).toFixed(2) + "%"), bar);
    row.title = "cosine " + one.cosine.toFixed(4);
    return row;
  });
  find("scores").replaceChildren(...rows);
}

function count(number, one, many) {
  return `${number} ${number === 1 ? one : many}`;
}

function tell(body, answer, taken) {
  const model = models.find((one) => one.id === body.model);
  const told = {
    model: model ? describe(model) : body.model,
    "there and back": taken.toFixed(0) + " ms",
    "in the encoder": (answer.headers.get("x-inference-time-ms") || "-") + " ms",
    "in the queue": (answer.headers.get("x-queue-time-ms") || "-") + " ms",
    classifier: count(body.classes, "class", "classes") + ", " + count(body.templates, "template", "templates") + (body.classifier_cached ? ", kept from before" : ""),
  };
  find("facts").replaceChildren(...Object.entries(told).flatMap(([name, value]) => [part("dt", "", name), part("dd", "", value)]));
  find("facts").hidden = false;
}

const drop = find("drop");
for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => { event.preventDefault(); show(event.dataTransfer.files[0]); });
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => event.preventDefault());
document.addEventListener("paste", (event) => { const [file] = event.clipboardData.files; if (file) show(file); });
find("file").addEventListener("change", (event) => show(event.target.files[0]));
find("file").addEventListener("focus", () => drop.classList.add("focus"));
find("file").addEventListener("blur", () => drop.classList.remove("focus"));
find("run").addEventListener("click", run);
find("set").addEventListener("change", () => { find("texts").disabled = Boolean(find("set").value); });
find("texts").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run(); });
find("key").addEventListener("change", readModels);
readModels();
