// What the index holds, and that it has changed.

import { $, make, state, call } from "./base.js";
import { showAsked, dropPhrase } from "./chips.js";
import { showDays, showDay } from "./days.js";
import { load } from "./query.js";

const LOOK_MS = 10000; // between checks for changes of the index

export async function showAbout() {
  const about = await call("/api/about").catch(() => null);
  if (!about) return;
  state.edition = about.edition;
  const chosen = $("filters").elements.root.value;
  $("cameras").replaceChildren(...about.cameras.map(({ camera }) => make("option", { value: camera })));
  $("filters").elements.root.replaceChildren(make("option", { value: "" }, "any"), ...about.roots.map(({ path }) => make("option", { value: path }, path)));
  $("filters").elements.root.value = chosen;
}

async function lookAgain() {
  if (document.hidden) return;
  const about = await call("/api/about").catch(() => null);
  if (!about) { state.edition = null; return; }
  if (state.failed && state.edition === null) { refresh(); return; } // it was gone, and is there again
  $("fresh").hidden = about.edition === state.edition;
}

function refresh() {
  $("fresh").hidden = true;
  return showAbout().then(showDays).then(() => load(true, "replace"));
}

$("fresh").addEventListener("click", () => { refresh(); $("photos").focus(); });
$("again").addEventListener("click", refresh);
$("clear").addEventListener("click", () => { state.phrases.forEach(({ words }) => dropPhrase(words)); state.day = ""; $("filters").reset(); showDay(); showAsked(); });
document.addEventListener("visibilitychange", lookAgain);
setInterval(lookAgain, LOOK_MS);
