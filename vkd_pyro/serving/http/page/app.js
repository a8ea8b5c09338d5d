"use strict";
// The page: files in, the service asked, answers shown. Files and token stay in this page's memory alone.

const at = (id) => document.getElementById(id);
const TRIES = 5;
let token = "", model = null, files = [], shown = 0, chosen = null, answer = null, asked = [], turn = 0;

const viewer = new Viewer(at("view"), (seen) => {
  at("zoom").textContent = `${Math.round(100 * seen.scale)} %`;
  at("brightness").value = seen.brightness;
  at("contrast").value = seen.contrast;
});

// ------------------------------------------------------------------------------- asking the service

class Wrong extends Error {}

async function ask(path, form) {
  for (let attempt = 1; ; attempt += 1) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    let response;
    try {
      response = await fetch(path, form ? { method: "POST", body: form, headers } : { headers });
    } catch {
      throw new Wrong("The service does not answer. Is it still running?");
    }
    if (response.status === 503 && attempt < TRIES) {
      const seconds = Number(response.headers.get("Retry-After")) || 2;
      at("status").textContent = `The service is busy; asking again in ${seconds} seconds …`;
      await new Promise((go) => setTimeout(go, 1000 * seconds));
      continue;
    }
    if (response.ok && response.headers.get("Content-Type").startsWith("image/")) return response.blob();
    const content = await response.json().catch(() => ({ error: `the service answers ${response.status}` }));
    if (response.status === 401) at("token").hidden = false;
    if (!response.ok && content.error) throw new Wrong(sentence(content.error));
    return content;
  }
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

function form(fields, images, field = "images") {
  const made = new FormData();
  for (const file of images) made.append(field, file, file.name);
  for (const [name, value] of Object.entries(fields)) {
    for (const one of Array.isArray(value) ? value : [value]) made.append(name, one);
  }
  return made;
}

function fail(lines) {
  at("error").replaceChildren(...[lines].flat().map((line) => element("p", "", line)));
}

async function working(text, work) {
  at("status").textContent = text;
  fail([]);
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Wrong)) throw error;
    fail(error.message);
    return null;
  } finally {
    at("status").textContent = "";
  }
}

// ----------------------------------------------------------------------------------------- the model

async function begin() {
  const local = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
  at("promise").textContent = "For research; not a medical device. " + (local
    ? "Nothing leaves this machine, and no image is kept."
    : "Images go to this service and nowhere else, and none is kept.");
  model = await working("", () => ask("v1/model"));
  if (!model) return;
  at("token").hidden = true;
  at("model").textContent = `Model ${model.bundle_sha256.slice(0, 8)}, vkd_pyro ${model.version}.`;
  at("listed").textContent = `It knows ${model.findings.length} findings: ${model.findings.join(", ")}.`;
  at("level").textContent = `${Math.round(100 * model.level)} % interval over z`;
  at("query").placeholder = model.findings.length > 1 ? `${model.findings.at(-2)} & ~${model.findings.at(-1)}` : model.findings[0];
  asked = [...model.questions];
}

// -------------------------------------------------------------------------------------- the findings

async function read(given) {
  const mine = (turn += 1);
  files = [...given];
  if (!files.length) return;
  const size = files.reduce((sum, file) => sum + file.size, 0);
  if (!model) await begin();
  if (!model) return;
  if (size > model.max_bytes) {
    fail(`Together ${(size / 1e6).toFixed(1)} MB; the service takes at most ${Math.round(model.max_bytes / 1e6)} MB at once.`);
    return;
  }
  at("answer").hidden = true;
  at("empty").hidden = true;
  const got = await working("Reading …", () => predicted());
  if (mine !== turn || !got) return;
  const problems = got.problems.map((one) => `${one.image}: ${one.problem.replace("on_mismatch=warn", "tick the box under Options")}`);
  if (problems.length) fail(problems);
  answer = got;
  if (!got.predictions.length) return;
  const unread = new Set(got.problems.map((one) => one.image));
  files = files.filter((file) => !unread.has(file.name));
  at("drop").hidden = true;
  at("shown").hidden = false;
  tabs();
  await show(0);
  at("result").focus({ preventScroll: true });
}

function predicted() {
  const fields = { study: files.length > 1 && at("study").checked, on_mismatch: at("mismatch").checked ? "warn" : "error" };
  return ask("v1/predictions", form({ ...fields, query: asked }, files));
}

function tabs() {
  const several = files.length > 1;
  at("tabs").replaceChildren(...(several ? files : []).map((file, index) => {
    const tab = element("button", "", `${index + 1}`);
    tab.type = "button";
    tab.title = file.name;
    tab.addEventListener("click", () => show(index));
    return tab;
  }));
}

// The image, and what is said of it: of a study that is the same for all its images.
async function show(index) {
  shown = index;
  chosen = null;
  [...at("tabs").children].forEach((tab, n) => tab.setAttribute("aria-pressed", n === index));
  at("caption").textContent = files[index].name;
  at("view").setAttribute("aria-label", `X-ray ${files[index].name}`);
  const said = Math.min(index, answer.predictions.length - 1);
  tell(answer.predictions[said], answer.questions[said]);
  const picture = await working("", () => ask("v1/previews", form({}, [files[index]], "image")));
  if (!picture || shown !== index) return;
  URL.revokeObjectURL(viewer.image.src);
  viewer.show(URL.createObjectURL(picture));
}

function tell(one, questions) {
  const rows = sorted(one.findings), level = `${Math.round(100 * one.level)} %`;
  const [head, why] = verdict(rows);
  at("verdict").textContent = head;
  at("why").textContent = why;
  at("unlike").hidden = !one.flagged;
  at("unlike").textContent = one.flagged
    ? `Unlike the images that the model was trained on (p = ${number(one.ood_p, 3)}): what it says may be wrong in any direction.` : "";
  at("notes").replaceChildren(...answer.notes.map((note) => element("p", "notice", `${note.image}: ${note.problem}`)));
  at("findings").replaceChildren(...rows.map((row) => findingRow(row, level, model.heat_maps ? heat : null)));
  at("opacity_of").hidden = !model.heat_maps;
  at("together").hidden = !model.questions.length;
  at("questions").replaceChildren(...questions.flatMap((question) => [
    element("dt", "", question.query),
    element("dd", "", `${number(question.probability)}${known(question.standard_error) ? ` ± ${number(question.standard_error)}` : ""}`),
  ]));
  fillTable(at("numbers").querySelector("table"), rows);
  at("made").textContent = `${one.images > 1 ? `${one.images} images as one study. ` : ""}${one.num_samples} draws of z, seed ${one.seed}. `
    + `Bundle ${one.bundle_sha256.slice(0, 16)}, vkd_pyro ${one.version}.`
    + (model.heat_maps ? "" : ` No heat maps: ${model.no_heat_maps}.`);
  at("answer").hidden = false;
}

async function heat(name) {
  chosen = chosen === name ? null : name;
  mark();
  viewer.clearMap();
  at("caption").textContent = files[shown].name;
  if (!chosen) return;
  const got = await working("Looking where …", () => ask("v1/heatmaps", form({ finding: name }, [files[shown]], "image")));
  if (!got || chosen !== name) return;
  await viewer.showMap(`data:image/png;base64,${got.maps[0].png}`, at("opacity").value / 100);
  at("caption").textContent = `${files[shown].name} · where ${name} is seen (Grad-CAM, ${got.cells.join(" × ")} cells)`;
}

function mark() {
  for (const row of at("findings").querySelectorAll("button")) {
    row.setAttribute("aria-pressed", row.dataset.finding === chosen);
  }
}

// ------------------------------------------------------------------------------------------- events

at("choose").addEventListener("click", () => at("files").click());
at("another").addEventListener("click", () => at("files").click());
at("files").addEventListener("change", () => { read(at("files").files).then(() => { at("files").value = ""; }); });
at("in").addEventListener("click", () => viewer.zoom(1.4));
at("out").addEventListener("click", () => viewer.zoom(1 / 1.4));
at("reset").addEventListener("click", () => viewer.reset());
for (const id of ["brightness", "contrast"]) {
  at(id).addEventListener("input", () => viewer.window(Number(at("brightness").value), Number(at("contrast").value)));
}
at("opacity").addEventListener("input", () => { viewer.map.style.opacity = at("opacity").value / 100; });
at("print").addEventListener("click", () => window.print());
at("copy").addEventListener("click", async () => {
  const said = Math.min(shown, answer.predictions.length - 1);
  const text = cells(sorted(answer.predictions[said].findings)).map((row) => row.join("\t")).join("\n");
  await navigator.clipboard.writeText(text).then(
    () => { at("status").textContent = "Copied."; },
    () => { at("numbers").open = true; fail("The browser does not let the page copy; select the table instead."); });
});
at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("given").value.trim();
  at("given").value = "";
  fail([]);
  begin();
});
at("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const query = at("query").value.trim() || at("query").placeholder;
  const before = asked;
  asked = [...new Set([...asked, query])];
  const got = await working("Asking …", () => predicted());
  if (!got || !got.predictions.length) { asked = before; return; }
  answer = got;
  at("query").value = "";
  const said = Math.min(shown, answer.predictions.length - 1);
  tell(answer.predictions[said], answer.questions[said]);
  mark();
});
let depth = 0;
addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; document.body.classList.add("over"); });
addEventListener("dragleave", () => { depth -= 1; if (!depth) document.body.classList.remove("over"); });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  document.body.classList.remove("over");
  read(event.dataTransfer.files);
});
begin();
