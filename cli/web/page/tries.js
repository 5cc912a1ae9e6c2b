// What to try when nothing was found: which filter is in the way.

import { $, make, state } from "./base.js";
import { dropPhrase, showAsked, withoutPhrase } from "./chips.js";
import { showDay } from "./days.js";
import { showPlace } from "./places.js";
import { finds, load, narrowing, question } from "./query.js";

export function hideTries() {
  $("tries").replaceChildren();
}

export async function showTries() {
  const number = state.asking;
  const useful = (await Promise.all(all().map(async (each) => await each.finds().catch(() => false) && each))).filter(Boolean);
  if (number !== state.asking) return;
  const found = useful.map(({ label, take }) => {
    const button = make("button", { type: "button" }, label);
    button.addEventListener("click", () => { take(); showAsked(); load(true); $("photos").focus(); });
    return make("li", {}, button);
  });
  if (!found.length) found.push(make("li", {}, advice()));
  $("tries").replaceChildren(...found);
}

function advice() {
  if (state.progress) return "The index is still being filled. Try again later.";
  const count = Object.keys(narrowing()).length + state.phrases.length;
  if (count > 1) return "No single filter is the reason. Clear them all, or use other words.";
  return count ? "Other words may help." : "Index photos with: imgsearch index FOLDER";
}

// Each filter, and each phrase that was read as one.
function all() {
  const asked = question();
  const tries = [];
  const add = (label, names, take) => {
    const left = narrowing();
    for (const name of names) delete left[name];
    tries.push({ label, take, finds: () => finds(asked, left) });
  };
  for (const field of $("filters").elements) {
    const value = field.name && field.name !== "group" && field.value.trim();
    if (value && !(state.day && ["after", "before"].includes(field.name))) add(`Without ${field.labels[0].firstChild.textContent.trim().toLowerCase()}: ${value}`, [field.name], () => { field.value = ""; });
  }
  if (state.day) add(`Without ${state.day}`, ["after", "before"], () => { state.day = ""; showDay(); });
  if (state.place) add(`Without ${state.place}`, ["place"], () => { state.place = ""; showPlace(); });
  for (const { words } of state.phrases) {
    const text = withoutPhrase(asked.text, words), quoted = asked.text.replace(words, `"${words}"`);
    tries.push({ label: `Without “${words}”`, take: () => dropPhrase(words), finds: () => finds({ ...asked, text }, narrowing()) });
    if (quoted !== asked.text) tries.push({
      label: `Search for “${words}” as words`, take: () => { $("words").value = $("words").value.replace(words, `"${words}"`); },
      finds: () => finds({ ...asked, text: quoted }, narrowing()),
    });
  }
  return tries;
}
