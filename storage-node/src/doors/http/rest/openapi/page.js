// Shows the OpenAPI document: what there is, what can be said and answered, and a form to try it.
"use strict";

const methods = ["get", "head", "put", "post", "patch", "delete"];

// Text is only ever set as text, so nothing of the document or of an answer runs as a program.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

function resolve(api, schema) {
  const seen = new Set();
  while (schema && schema.$ref && !seen.has(schema.$ref)) {
    seen.add(schema.$ref);
    schema = schema.$ref.replace(/^#\//, "").split("/").reduce((at, step) => at?.[step], api);
  }
  return schema ?? {};
}

function outline(api, schema, depth = 0) {
  schema = resolve(api, schema);
  const pad = "  ".repeat(depth);
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices) return choices.map((choice) => outline(api, choice, depth)).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.properties && depth < 5) {
    const required = new Set(schema.required ?? []);
    const lines = Object.entries(schema.properties).map(([name, inner]) => {
      const said = resolve(api, inner).description ?? inner.description;
      const why = said ? `   // ${said.split("\n")[0]}` : "";
      return `${pad}  "${name}"${required.has(name) ? "" : "?"}: ${outline(api, inner, depth + 1)},${why}`;
    });
    return `{\n${lines.join("\n")}\n${pad}}`;
  }
  if (schema.items) return `[${outline(api, schema.items, depth)}, …]`;
  const type = [].concat(schema.type ?? "any JSON").join(" or ");
  return schema.additionalProperties ? `{ key: ${outline(api, schema.additionalProperties, depth)}, … }` : type;
}

function contents(api, content) {
  return Object.entries(content ?? {}).map(([media, said]) =>
    element("div", {}, element("code", {}, media), element("pre", {}, outline(api, said.schema ?? {}))));
}

function table(heads, rows) {
  const line = (cells, tag) => element("tr", {}, ...cells.map((cell) =>
    cell instanceof Node && cell.tagName === "TD" ? cell : element(tag, {}, cell)));
  return element("table", {}, line(heads, "th"), ...rows.map((row) => line(row, "td")));
}

function tryIt(api, method, path, operation) {
  const inputs = new Map();
  const rows = (operation.parameters ?? []).map((parameter) => {
    const input = element("input", { "aria-label": parameter.name });
    inputs.set(parameter, input);
    const name = parameter.name + (parameter.required ? " *" : "");
    return [element("code", {}, name), parameter.in, element("td", { class: "said" }, parameter.description ?? ""), input];
  });
  const medias = Object.keys(operation.requestBody?.content ?? {});
  const media = element("select", { "aria-label": "media type" }, ...medias.map((name) => element("option", {}, name)));
  const body = element("textarea", { rows: "4", "aria-label": "body" });
  if (path.endsWith("/kv/{key}")) body.value = '{"value": "hello"}';
  const out = element("pre", { hidden: "" });
  const send = element("button", { type: "button" }, "Send");
  send.addEventListener("click", async () => {
    let address = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const [parameter, input] of inputs) {
      if (parameter.in === "path") address = address.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value === "") continue;
      else if (parameter.in === "query") query.set(parameter.name, input.value);
      else headers[parameter.name] = input.value;
    }
    if (query.size > 0) address += `?${query}`;
    const options = { method: method.toUpperCase(), headers };
    if (medias.length > 0) {
      headers["Content-Type"] = media.value;
      options.body = body.value;
    }
    out.hidden = false;
    try {
      const answer = await fetch(address, options);
      const shown = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
      out.textContent = `${options.method} ${address}\n\n${answer.status} ${answer.statusText}\n${shown}\n\n${await answer.text()}`;
    } catch (error) {
      out.textContent = `${options.method} ${address}\n\n${error}`;
    }
  });
  return [
    rows.length > 0 ? table(["Parameter", "In", "", "Value"], rows) : null,
    ...contents(api, operation.requestBody?.content),
    medias.length > 0 ? media : null,
    medias.length > 0 ? body : null,
    send,
    out,
  ];
}

function show(api, method, path, operation) {
  const answers = Object.entries(operation.responses ?? {}).map(([status, answer]) => {
    const shown = status.startsWith("2") ? contents(api, answer.content) : [];
    return [element("code", {}, status), element("td", { class: "said" }, answer.description ?? "", ...shown)];
  });
  const inside = element("div");
  const made = element("details", { class: "operation", id: operation.operationId, "data-path": path, "data-method": method },
    element("summary", {}, element("span", { class: `method ${method}` }, method), element("span", { class: "path" }, path),
      element("span", { class: "summary" }, operation.summary ?? "")),
    inside);
  // Most are never opened, so they are filled only then.
  made.addEventListener("toggle", () => {
    if (inside.childElementCount > 0) return;
    inside.append(element("p", {}, operation.description ?? operation.summary ?? ""),
      ...tryIt(api, method, path, operation).filter(Boolean), element("h4", {}, "Answers"), table(["Status", "What it says"], answers));
  });
  return made;
}

async function begin() {
  const about = document.getElementById("about");
  try {
    const api = await (await fetch("/api/v1/openapi.json")).json();
    document.getElementById("title").textContent = `${api.info.title} ${api.info.version}`;
    about.textContent = api.info.description;
    const main = document.getElementById("operations");
    for (const tag of api.tags) {
      const section = element("section", {}, element("h2", {}, `${tag.name}: ${tag.description}`));
      for (const [path, item] of Object.entries(api.paths)) {
        for (const method of methods) {
          if (item[method]?.tags?.includes(tag.name)) section.append(show(api, method, path, item[method]));
        }
      }
      main.append(section);
    }
    // An address such as …/docs#putKey opens that operation.
    const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (named instanceof HTMLDetailsElement) {
      named.open = true;
      named.scrollIntoView();
    }
    document.body.dataset.operations = String(document.querySelectorAll("details.operation").length);
  } catch (error) {
    about.textContent = `The document cannot be read: ${error}`;
  }
}

document.getElementById("filter").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const made of document.querySelectorAll("details.operation")) {
    made.hidden = !made.firstElementChild.textContent.toLowerCase().includes(wanted);
  }
});
begin();
