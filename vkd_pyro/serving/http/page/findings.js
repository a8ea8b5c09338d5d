"use strict";
// From an answer of the service to what is shown: a verdict, a row a finding, a table. Text is set as text alone.

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

const known = (value) => value !== null && value !== undefined;
const number = (value, digits = 2) => {
  if (!known(value)) return "–";
  return value > 0 && value < 0.5 * 10 ** -digits ? `<${(10 ** -digits).toFixed(digits)}` : value.toFixed(digits);
};
const listed = (names) => names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;

// Recalibrated where that is known, as the answers are.
function view(name, of) {
  const calibrated = known(of.calibrated);
  return {
    name, ...of,
    p: calibrated ? of.calibrated : of.probability,
    from: calibrated ? of.calibrated_low : of.low,
    to: calibrated ? of.calibrated_high : of.high,
  };
}

const NOTHING = "No Finding";
const ORDER = { yes: 0, refer: 1, unknown: 2, no: 2 };

function sorted(findings) {
  const rows = Object.entries(findings).map(([name, of]) => view(name, of));
  return rows.sort((a, b) => ORDER[a.answer] - ORDER[b.answer] || b.p - a.p);
}

function reason(one) {
  if (one.answer === "refer") {
    return `referred: its interval, ${number(one.from)} to ${number(one.to)}, holds the threshold ${number(one.threshold)}`;
  }
  if (one.answer === "unknown" && one.undefined) return one.undefined.split(";")[0];
  return "";
}

function verdict(rows) {
  const of = (answer) => rows.filter((one) => one.answer === answer && one.name !== NOTHING).map((one) => one.name);
  const yes = of("yes"), refer = of("refer"), decided = rows.some((one) => one.answer !== "unknown");
  if (!decided) return ["No thresholds", "The model has no threshold for any finding, so it gives probabilities alone."];
  const nothing = rows.some((one) => one.name === NOTHING && one.answer === "yes");
  const head = nothing && !yes.length ? "No finding" : yes.length ? `${listed(yes)}: yes` : refer.length ? "No finding is a clear yes" : "No finding above its threshold";
  return [head, refer.length ? `To be read by a person: ${listed(refer)}.` : ""];
}

function bar(one, level) {
  const track = element("span", "bar");
  const place = (className, left, width) => {
    const mark = element("i", className);
    mark.style.left = `${100 * left}%`;
    if (known(width)) mark.style.width = `${100 * width}%`;
    track.append(mark);
  };
  if (known(one.from) && known(one.to)) place("band", one.from, one.to - one.from);
  if (known(one.threshold)) place("tick", Math.min(1, one.threshold));
  place("dot", one.p);
  const interval = known(one.from) ? `, ${level} interval ${number(one.from)} to ${number(one.to)}` : "";
  track.setAttribute("role", "img");
  track.setAttribute("aria-label", `probability ${number(one.p)}${interval}, threshold ${number(one.threshold)}`);
  return track;
}

// A row; a button where a heat map can be asked for.
function findingRow(one, level, chosen) {
  const row = element(chosen ? "button" : "div", `finding ${one.answer}`);
  if (chosen) {
    row.type = "button";
    row.setAttribute("aria-pressed", "false");
    row.title = "Show where";
    row.addEventListener("click", () => chosen(one.name, row));
  }
  row.dataset.finding = one.name;
  row.append(element("span", "name", one.name), element("span", "number", number(one.p)), bar(one, level),
    element("span", "said", one.answer));
  if (reason(one)) row.append(element("span", "reason", reason(one)));
  const item = element("li");
  item.append(row);
  return item;
}

const COLUMNS = {
  finding: (one) => one.name,
  probability: (one) => number(one.p, 3),
  from: (one) => number(one.from, 3),
  to: (one) => number(one.to, 3),
  threshold: (one) => number(one.threshold, 3),
  answer: (one) => one.answer,
  "not recalibrated": (one) => number(one.probability, 3),
};

function cells(rows) {
  return [Object.keys(COLUMNS), ...rows.map((one) => Object.values(COLUMNS).map((cell) => cell(one)))];
}

function fillTable(table, rows) {
  const [head, ...body] = cells(rows);
  const line = (texts, tag) => {
    const row = element("tr");
    row.append(...texts.map((text, at) => element(tag, at && at !== 5 ? "number" : "", text)));
    return row;
  };
  table.tHead.replaceChildren(line(head, "th"));
  table.tBodies[0].replaceChildren(...body.map((texts) => line(texts, "td")));
}
