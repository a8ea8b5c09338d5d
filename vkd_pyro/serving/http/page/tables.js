// What is said of an image, as tables. Text from outside goes through textContent alone.

const ORDER = ["yes", "refer", "no", "unknown"];
const WORDS = { yes: "Yes", refer: "Refer", no: "No", unknown: "Unknown" };
const COLUMNS = ["finding", "probability", "low", "high", "threshold", "answer", "why"];

export function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

export const number = (value) => (value === null ? "–" : value.toFixed(3));

// A finding as it is shown: recalibrated where it can be, and in an order in which it is read.
export function shown(prediction) {
  const rows = Object.entries(prediction.findings).map(([finding, said]) => {
    const raw = said.calibrated === null;
    return {
      finding,
      raw,
      probability: raw ? said.probability : said.calibrated,
      low: raw ? said.low : said.calibrated_low,
      high: raw ? said.high : said.calibrated_high,
      threshold: said.threshold,
      answer: said.answer,
      why: why(said),
    };
  });
  return rows.sort((a, b) => ORDER.indexOf(a.answer) - ORDER.indexOf(b.answer) || b.probability - a.probability);
}

function why(said) {
  const draws = said.low === null ? "" : ", and at least two thirds of the draws of z say so";
  return {
    yes: `The probability is at or above the threshold${draws}.`,
    refer: "Less than two thirds of the draws of z say the same.",
    no: `The probability is below the threshold${draws}.`,
    unknown: sentence((said.undefined ?? "").split("; no conformal set")[0]),
  }[said.answer];
}

export function sentence(text) {
  const whole = text.trim();
  return whole && whole[0].toUpperCase() + whole.slice(1) + (/[.!?]$/.test(whole) ? "" : ".");
}

export function summary(rows) {
  const count = (answer) => rows.filter((row) => row.answer === answer).length;
  const words = { yes: "yes", refer: "to refer", no: "no", unknown: "unknown" };
  const parts = ORDER.filter(count).map((answer) => `${count(answer)} ${words[answer]}`);
  return `${rows.length} findings: ${parts.join(", ")}.`;
}

// A group for each answer and its reason, which are said once.
export function fillFindings(table, rows, toggle) {
  const groups = new Map();
  for (const row of rows) {
    const key = `${row.answer} ${row.why}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  for (const body of [...table.tBodies]) body.remove();
  for (const [first, ...others] of groups.values()) {
    const body = element("tbody", "", { role: "rowgroup", class: first.answer });
    body.append(heading(first), ...[first, ...others].map((row) => findingRow(row, toggle)));
    table.append(body);
  }
}

function heading(row) {
  const line = element("tr", "", { role: "row", class: "heading" });
  const cell = element("th", "", { role: "rowheader", scope: "rowgroup", colspan: "5" });
  cell.append(element("span", WORDS[row.answer], { class: "answer" }), element("span", row.why, { class: "why" }));
  line.append(cell);
  return line;
}

function findingRow(row, toggle) {
  const line = element("tr", "", { role: "row" });
  const name = element("th", "", { role: "rowheader", scope: "row" });
  if (toggle) {
    const button = element("button", row.finding, { class: "finding", "aria-pressed": "false", title: "Heat map" });
    button.addEventListener("click", () => toggle(row.finding));
    name.append(button);
  } else {
    name.textContent = row.finding;
  }
  const cell = (text, kind) => element("td", text, { role: "cell", class: kind });
  const scale = cell("", "scale");
  scale.append(bar(row));
  const interval = row.low === null ? "–" : `${number(row.low)}–${number(row.high)}`;
  line.append(
    name,
    cell(number(row.probability) + (row.raw ? "*" : ""), "number probability"),
    scale,
    cell(interval, "number interval"),
    cell(number(row.threshold), "number threshold"),
  );
  return line;
}

function bar(row) {
  const track = element("span", "", { class: "track", "aria-hidden": "true" });
  const parts = { band: row.low, tick: row.threshold, dot: row.probability };
  for (const [kind, at] of Object.entries(parts)) {
    if (at === null) continue;
    const part = element("span", "", { class: kind });
    part.style.left = `${100 * at}%`;
    if (kind === "band") part.style.width = `${100 * (row.high - row.low)}%`;
    track.append(part);
  }
  return track;
}

export function fillQuestions(body, questions) {
  body.replaceChildren(
    ...questions.map((one) => {
      const line = element("tr");
      const error = one.standard_error ? ` ± ${one.standard_error.toFixed(3)}` : "";
      line.append(
        element("th", one.query, { scope: "row" }),
        element("td", number(one.probability) + error, { class: "number" }),
        element("td", number(one.product_of_marginals), { class: "number" }),
      );
      return line;
    }),
  );
}

// For a spreadsheet or a letter: columns by tabs.
export function asText(rows, questions, madeBy) {
  const cells = (row) => COLUMNS.map((name) => (row[name] === null ? "" : row[name]));
  const lines = [COLUMNS, ...rows.map(cells), ...questions.map((one) => [one.query, one.probability])];
  return [...lines.map((line) => line.join("\t")), madeBy].join("\n");
}
