"use strict";

function part(name, text) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  return element;
}

function table(rows) {
  const body = part("tbody");
  for (const [name, told] of rows) {
    const row = part("tr");
    const cell = part("td");
    cell.append(part("code", name));
    row.append(cell, part("td", told));
    body.append(row);
  }
  const whole = part("table");
  whole.append(body);
  return whole;
}

function describe(field) {
  const kinds = field.enum ? field.enum.join(", ") : field.type || "";
  return [field.description, kinds].filter(Boolean).join("; ");
}

function write(path, method, told) {
  const section = part("section");
  section.className = "wide";
  section.append(part("h2", `${method.toUpperCase()} ${path}`), part("p", told.summary));
  const body = told.requestBody;
  if (body) {
    const schema = body.content["application/json"].schema;
    section.append(table(Object.entries(schema.properties).map(([name, field]) => [name, describe(field)])));
  }
  return section;
}

async function read() {
  const api = await (await fetch("openapi.json")).json();
  document.getElementById("about").textContent = api.info.description;
  const routes = Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, told]) => write(path, method, told)));
  const errors = part("section");
  errors.className = "wide";
  errors.append(part("h2", "Errors"), table(Object.entries(api.paths["/v1/embeddings"].post.responses).filter(([status]) => status !== "200").map(([status, told]) => [status, told.description])));
  document.getElementById("routes").append(...routes, errors);
}

read();
