// The browser's way back.

import { $, state, thumbnail } from "./base.js";
import { showAsked } from "./chips.js";
import { showDay } from "./days.js";

const slim = ({ id, path, thumbnail }) => ({ id, path, thumbnail });

export function asked() {
  return {
    words: $("words").value, weight: $("weight").value, day: state.day, pictures: state.pictures,
    filters: Object.fromEntries(new FormData($("filters"))),
    liked: [...state.liked.values()].map(slim), disliked: [...state.disliked.values()].map(slim),
  };
}

export function remember(how) {
  const now = asked();
  if (how === "push" && JSON.stringify(now) !== JSON.stringify(history.state)) history.pushState(now, "");
  else if (how) history.replaceState(now, "");
}

export function restore(then) {
  $("words").value = then.words;
  $("weight").value = then.weight;
  Object.assign(state, { day: then.day, pictures: then.pictures, phrases: [] });
  for (const name of ["liked", "disliked"]) state[name] = new Map(then[name].map((photo) => [photo.id, photo]));
  for (const [name, value] of Object.entries(then.filters)) $("filters").elements[name].value = value;
  if (Object.values(then.filters).some(Boolean)) showFilters(true); // what narrows the answer is in sight
  sayWeight();
  showDay();
  showAsked();
}

export const sayWeight = () => $("weight").setAttribute("aria-valuetext", `words ${$("weight").value} percent`);

export function showFilters(isShown) {
  $("filters").hidden = !isShown;
  $("show-filters").setAttribute("aria-expanded", String(isShown));
}
