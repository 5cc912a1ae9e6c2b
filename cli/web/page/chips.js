// What is asked, as chips that can be removed.

import { SMALL, $, make, state, call, say, nameOf, thumbnail } from "./base.js";
import { showDay } from "./days.js";
import { close } from "./look.js";
import { showPlace } from "./places.js";
import { split, load } from "./query.js";

export function showAsked() {
  const chips = [];
  state.pictures.forEach((picture, at) => chips.push(chip(picture.src, picture.label, () => state.pictures.splice(at, 1))));
  for (const [map, word] of [[state.liked, "liked"], [state.disliked, "not liked"]]) {
    for (const photo of map.values()) {
      const each = chip(thumbnail(photo, SMALL), `${word}: ${nameOf(photo)}`, () => map.delete(photo.id));
      each.classList.add(word === "liked" ? "liked" : "disliked");
      chips.push(each);
    }
  }
  if (state.day) chips.push(chip(null, state.day, () => { state.day = ""; showDay(); }));
  if (state.place) chips.push(chip(null, state.place, () => { state.place = ""; showPlace(); }));
  for (const { words, filters } of state.phrases) {
    const each = chip(null, `${filters.name ? "named" : filters.place || filters.near ? "place" : "taken"}: ${words}`, () => dropPhrase(words));
    each.title = `To search for these words instead, put them in quotes: "${words}"`;
    chips.push(each);
  }
  $("chips").replaceChildren(...chips);
  $("asked").hidden = !chips.length;
  $("mix").hidden = !(state.pictures.length && split($("words").value).text);
}

function chip(src, label, drop) {
  const button = make("button", { type: "button", "aria-label": `Leave out ${label}` }, "×");
  button.addEventListener("click", () => { drop(); showAsked(); load(true); });
  const inside = [make("span", {}, label), button];
  if (src) inside.unshift(make("img", { src, alt: "" }));
  return make("div", { class: "chip" }, ...inside);
}

// The words without a phrase that became a filter. A minus may stand inside it, and stays.
export function withoutPhrase(text, words) {
  const escaped = words.split(" ").map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const inside = new RegExp(escaped.join("((?:\\s+-\\S+)*)\\s+"), "u");
  return text.replace(inside, (...found) => found.slice(1, escaped.length).join("")).replace(/\s+/g, " ").trim();
}

export function dropPhrase(words) {
  $("words").value = withoutPhrase($("words").value, words);
  state.phrases = state.phrases.filter((phrase) => phrase.words !== words);
}

export async function bring(file) {
  if (!file) return;
  say(`reading ${file.name || "the picture"} ...`);
  try {
    const { id } = await call("/api/pictures", { method: "POST", headers: { "content-type": "application/octet-stream" }, body: file });
    state.pictures = [{ upload: id, label: file.name || "pasted picture", src: URL.createObjectURL(file) }];
    showAsked();
    load(true);
  } catch (error) {
    say(`${file.name || "the picture"}: ${error.message}`, true);
  }
}

export function moreLike(photo) {
  state.pictures = [{ photo: photo.id, label: nameOf(photo), src: thumbnail(photo, SMALL) }];
  $("words").value = "";
  close();
  showAsked();
  load(true);
}
