// What the page asks of the service. The token is in memory only.

const TRIES = 5;
let token = "";

export class Refusal extends Error {
  // An answer that is an error: its status, and what it says.
  constructor(status, text, answer = {}) {
    super(text);
    this.status = status;
    this.answer = answer;
  }
}

export function use(given) {
  token = given;
}

async function ask(path, body, signal) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  for (let tried = 1; ; tried++) {
    let answer;
    try {
      answer = await fetch(path, { method: body ? "POST" : "GET", body, headers, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal(0, "The service does not answer. Is it still running?");
    }
    if (answer.ok) return answer;
    if (answer.status === 503 && tried < TRIES) {
      const seconds = Number(answer.headers.get("Retry-After")) || 2;
      await new Promise((go) => setTimeout(go, 1000 * seconds));
      continue;
    }
    const said = await answer.json().catch(() => ({}));
    throw new Refusal(answer.status, said.error ?? `The service answered with status ${answer.status}.`, said);
  }
}

export const model = async () => (await ask("v1/model")).json();

// Files are sent under their numbers: what they are called stays in the browser.
export async function predictions(files, { study, anyway, queries, signal }) {
  const form = new FormData();
  files.forEach((file, number) => form.append("images", file, String(number)));
  form.append("study", study);
  form.append("on_mismatch", anyway ? "warn" : "error");
  for (const query of queries) form.append("query", query);
  try {
    return await (await ask("v1/predictions", form, signal)).json();
  } catch (error) {
    if (error.status === 422 && error.answer.problems) return error.answer; // none could be read
    throw error;
  }
}

export async function preview(file) {
  const form = new FormData();
  form.append("image", file, "0");
  return createImageBitmap(await (await ask("v1/previews", form)).blob());
}

export async function heatMap(file, finding) {
  const form = new FormData();
  form.append("image", file, "0");
  form.append("finding", finding);
  const { maps, cells } = await (await ask("v1/heatmaps", form)).json();
  const bytes = Uint8Array.from(atob(maps[0].png), (character) => character.charCodeAt(0));
  return { bitmap: await createImageBitmap(new Blob([bytes], { type: "image/png" })), cells };
}
