// What the index holds, and that it has changed.

import { $, make, state, call, counted } from "./base.js";
import { showAsked, dropPhrase } from "./chips.js";
import { showDays, showDay } from "./days.js";
import { forgetPlaces, showPlace, showView } from "./places.js";
import { load } from "./query.js";

const LOOK_MS = 10000, RUN_MS = 2000; // between checks for changes of the index, and while a run fills it

export async function showAbout() {
  const about = await call("/api/about").catch(() => null);
  if (!about) return;
  state.edition = about.edition;
  showProgress(about.progress);
  const chosen = $("filters").elements.root.value;
  $("cameras").replaceChildren(...about.cameras.map(({ camera }) => make("option", { value: camera })));
  $("filters").elements.root.replaceChildren(make("option", { value: "" }, "any"), ...about.roots.map(({ path }) => make("option", { value: path }, path)));
  $("filters").elements.root.value = chosen;
}

async function lookAgain() {
  clearTimeout(next);
  if (document.hidden) return;
  await lookOnce();
  clearTimeout(next);
  next = setTimeout(lookAgain, state.progress ? RUN_MS : LOOK_MS);
}

let next = setTimeout(lookAgain, LOOK_MS);

function showProgress(progress) {
  state.progress = progress;
  $("progress").hidden = !progress;
  if (!progress) return;
  const { done, total } = progress;
  $("progress").querySelector("progress").value = done / total;
  $("progress").querySelector("span").textContent = `Indexing: ${done.toLocaleString("en-GB")} of ${counted(total)} done`;
}

async function lookOnce() {
  const about = await call("/api/about").catch(() => null);
  if (!about) { state.edition = null; return; }
  if (state.failed && state.edition === null) { refresh(); return; } // it was gone, and is there again
  showProgress(about.progress);
  if (about.edition !== state.edition && !state.photos.length) { refresh(); return; } // there may be something now
  $("fresh").hidden = about.edition === state.edition;
}

function refresh() {
  $("fresh").hidden = true;
  forgetPlaces();
  return showAbout().then(showDays).then(showView).then(() => load(true, "replace"));
}

$("fresh").addEventListener("click", () => { refresh(); $("photos").focus(); });
$("again").addEventListener("click", refresh);
$("clear").addEventListener("click", () => { state.phrases.forEach(({ words }) => dropPhrase(words)); state.day = state.place = ""; $("filters").reset(); showDay(); showPlace(); showAsked(); });
document.addEventListener("visibilitychange", lookAgain);
