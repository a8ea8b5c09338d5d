// From files to what is said of them: state, and who is told of it.

import * as service from "./requests.js";
import { asText, element, fillFindings, fillQuestions, sentence, shown, summary } from "./tables.js";
import { Viewer } from "./viewer.js";

const find = (id) => document.getElementById(id);
const viewer = new Viewer(find);

let model = null;
let files = [];
let answer = null; // of the service, to `files`
let chosen = 0; // number of the file that is shown
let heat = null; // finding whose map is shown
let queries = [];
let anyway = false; // whether files that seem to be no chest X-rays are predicted too
let running = new AbortController();
const maps = new Map();

// ------------------------------------------------------------------------------------------ start

async function start() {
  try {
    model = await service.model();
  } catch (error) {
    if (error.status !== 401) return tell([error.message]);
    const again = !find("access").hidden;
    find("access").hidden = false;
    find("token").focus();
    return tell(again ? ["This token is not the service's."] : []);
  }
  tell([]);
  find("access").hidden = true;
  find("work").hidden = false;
  describe();
}

function describe() {
  const most = Math.round(model.max_bytes / 2 ** 20);
  find("allowed").textContent = `PNG, JPEG or DICOM. Several at once, up to ${most}\u00a0MB together.`;
  const level = `${Number((100 * model.level).toPrecision(3))} %`;
  find("level").textContent = `${level} interval`;
  find("interval").textContent = `${level} interval over z`;
  find("asking").hidden = !model.questions.length;
  queries = [...model.questions];
  const [first, second] = model.findings.slice(-2);
  find("grammar").textContent = `& and, | or, ~ not, ( ). For example: ${first}${second ? ` & ~${second}` : ""}.`;
  const facts = {
    Findings: model.findings.join(", "),
    Views: model.views.join(", "),
    Image: `${model.image_size} × ${model.image_size} pixels`,
    "Computed by": `${model.engine === "torch" ? "PyTorch" : "OpenVINO"}, vkd_pyro ${model.version}`,
    Bundle: model.bundle_sha256,
  };
  find("facts").replaceChildren(...Object.entries(facts).flatMap(([k, v]) => [element("dt", k), element("dd", v)]));
  find("card").textContent = model.card;
}

find("access").addEventListener("submit", (event) => {
  event.preventDefault();
  service.use(find("token").value.trim());
  find("token").value = "";
  start();
});

// ------------------------------------------------------------------------------------------ files

find("files").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = ""; // so that the same file can be chosen again
});

for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    const over = kind === "dragenter" || kind === "dragover";
    document.body.classList.toggle("over", over && model !== null);
    if (kind === "drop" && model) take([...event.dataTransfer.files]);
  });
}

function take(given) {
  if (!given.length) return;
  const size = given.reduce((sum, file) => sum + file.size, 0);
  const wrong = [];
  if (given.length > model.max_images) {
    wrong.push(`${given.length} images, and at most ${model.max_images} can be sent at once.`);
  }
  if (size > model.max_bytes) {
    const megabytes = (bytes) => (bytes / 2 ** 20).toFixed(1);
    wrong.push(`${megabytes(size)} MB, and at most ${megabytes(model.max_bytes)} MB can be sent at once.`);
  }
  if (wrong.length) return tell(wrong);
  files = given;
  [chosen, anyway, heat] = [0, false, null];
  maps.clear();
  viewer.clear();
  find("study").checked = false;
  predict();
}

async function predict() {
  running.abort();
  const { signal } = (running = new AbortController());
  answer = null;
  tell([]);
  find("drop").hidden = true;
  find("bar").hidden = find("answer").hidden = false;
  listFiles();
  render();
  find("status").textContent = files.length > 1 ? `Reading ${files.length} images …` : "Reading the image …";
  showImage();
  try {
    const study = find("study").checked;
    const said = await service.predictions(files, { study, anyway, queries, signal });
    if (signal.aborted) return;
    answer = said;
    tellProblems();
  } catch (error) {
    if (signal.aborted) return;
    tell([error.message]);
  }
  if (!answer?.predictions.length) return startAgain();
  if (!of(chosen)) choose(Number(answer.images[0][0]));
  render();
}

function startAgain() {
  find("drop").hidden = false;
  find("bar").hidden = find("answer").hidden = true;
}

find("study").addEventListener("change", predict);

function listFiles() {
  find("names").replaceChildren(
    ...files.map((file, number) => {
      const button = element("button", file.name, { "aria-pressed": String(number === chosen), class: "name" });
      button.addEventListener("click", () => choose(number));
      return button;
    }),
  );
  find("of").textContent = files[0].name;
  find("of").hidden = files.length > 1;
  find("names").hidden = find("together").hidden = files.length < 2;
}

function choose(number) {
  chosen = number;
  heat = null;
  viewer.clear();
  for (const [other, button] of [...find("names").children].entries()) {
    button.setAttribute("aria-pressed", String(other === number));
  }
  render();
  showImage();
}

async function showImage() {
  const number = chosen;
  const of = files;
  try {
    const bitmap = await service.preview(files[number]);
    if (number !== chosen || of !== files) return;
    viewer.show(bitmap);
    if (heat) showHeat(heat);
  } catch {
    // its problem is told with the predictions
  }
}

// ---------------------------------------------------------------------------------------- answers

// The number of the prediction that a file is part of, and null where there is none.
function of(number) {
  const place = answer?.images.findIndex((names) => names.includes(String(number))) ?? -1;
  if (place < 0) return null;
  return { ...answer.predictions[place], questions: answer.questions[place], names: answer.images[place] };
}

function render() {
  const said = of(chosen);
  find("said").hidden = !said;
  if (!said) {
    if (answer) find("status").textContent = "This image could not be read; why is said above.";
    return;
  }
  find("status").textContent = "";
  const rows = shown(said);
  const together = said.names.length > 1 ? `A study of ${said.names.length} images. ` : "";
  find("summary").textContent = together + summary(rows);
  renderNovelty(said);
  const notes = answer.notes.filter((note) => said.names.includes(note.image));
  find("notes").replaceChildren(...notes.map((note) => element("li", `${files[note.image].name}: ${note.problem}.`)));
  fillFindings(find("findings"), rows, model.heat_maps ? toggleHeat : null);
  const remarks = [];
  if (rows.some((row) => row.raw)) remarks.push("* As the model gives it, not recalibrated.");
  if (!model.heat_maps) remarks.push(sentence(model.no_heat_maps));
  find("remark").textContent = remarks.join(" ");
  fillQuestions(find("questions").tBodies[0], said.questions);
  find("made-by").textContent = madeBy(said);
  markHeat();
}

function renderNovelty(said) {
  const p = said.ood_p === null ? "" : ` (p = ${said.ood_p.toPrecision(2)})`;
  find("novelty").classList.toggle("unlike", said.flagged === true);
  find("novelty").textContent =
    said.flagged === null
      ? "Whether it is like the images the model was trained on is not known."
      : said.flagged
        ? `Unlike the images it was trained on${p}: what follows may not hold.`
        : `Like the images it was trained on${p}.`;
}

function madeBy(said) {
  const draws = `${said.num_samples} draws of z, seed ${said.seed}`;
  return `Bundle ${said.bundle_sha256.slice(0, 12)}, vkd_pyro ${said.version}, ${draws}.`;
}

// --------------------------------------------------------------------------------------- heat maps

function toggleHeat(finding) {
  if (heat === finding) return hideHeat();
  showHeat(finding);
}

function hideHeat() {
  heat = null;
  viewer.hideHeat();
  markHeat();
}

async function showHeat(finding) {
  const number = chosen;
  const before = files;
  heat = finding;
  markHeat();
  const key = `${number} ${finding}`;
  try {
    if (!maps.has(key)) maps.set(key, await service.heatMap(files[number], finding));
  } catch (error) {
    hideHeat();
    return tell([error.message]);
  }
  if (heat === finding && chosen === number && files === before) {
    viewer.showHeat(maps.get(key).bitmap, finding);
    markHeat();
  }
}

function markHeat() {
  for (const button of document.querySelectorAll("button.finding")) {
    button.setAttribute("aria-pressed", String(button.textContent === heat));
  }
  const cells = maps.get(`${chosen} ${heat}`)?.cells;
  find("heat-tools").hidden = heat === null;
  find("heat-name").textContent = cells ? `Heat map: ${heat}` : `Heat map: ${heat} …`;
  find("cells").textContent = cells ? `from ${cells[0]} × ${cells[1]} cells` : "";
}

find("hide").addEventListener("click", hideHeat);

// --------------------------------------------------------------------------------------- questions

find("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const query = find("question").value.trim();
  if (queries.includes(query)) return;
  try {
    const study = find("study").checked;
    const said = await service.predictions(files, { study, anyway, queries: [...queries, query] });
    queries.push(query);
    answer = said;
    find("question").value = "";
    tell([]);
    render();
  } catch (error) {
    tell([error.message]);
  }
});

// ----------------------------------------------------------------------------------------- telling

function tell(lines, action) {
  const box = find("problems");
  box.replaceChildren(...lines.map((line) => element("p", line)));
  if (action) box.append(action);
}

function tellProblems() {
  const mismatch = /;[^;]*on_mismatch=warn$/;
  const lines = answer.problems.map((one) => {
    const problem = sentence(one.problem.replace(mismatch, ""));
    return `${files[one.image].name}: ${problem}`;
  });
  let action = null;
  if (answer.problems.some((one) => mismatch.test(one.problem))) {
    action = element("button", "Predict it all the same");
    action.addEventListener("click", () => {
      anyway = true;
      predict();
    });
  }
  tell(lines, action);
}

find("copy").addEventListener("click", async () => {
  const said = of(chosen);
  await copy(asText(shown(said), said.questions, madeBy(said)));
  find("copy").textContent = "Copied";
  setTimeout(() => (find("copy").textContent = "Copy table"), 2000);
});

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = element("textarea", text, { class: "unseen" }); // where the page is not by HTTPS, nor on this machine
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

find("print").addEventListener("click", () => window.print());

start();
