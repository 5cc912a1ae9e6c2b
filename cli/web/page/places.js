// The towns where photos were taken, in place of the bar of days.

import { remember } from "./address.js";
import { $, make, state, call, counted } from "./base.js";
import { showAsked } from "./chips.js";
import { roving, showDay } from "./days.js";
import { load } from "./query.js";

let isLoaded = false;

export const forgetPlaces = () => { isLoaded = false; };

// Days or places: what `state` says, with what is chosen there.
export function showView() {
  const isPlaces = state.view === "places";
  $("view").setAttribute("aria-pressed", String(isPlaces));
  $("days").classList.toggle("away", isPlaces);
  $("places").hidden = !isPlaces;
  showDay();
  showPlace();
  if (isPlaces && !isLoaded) showPlaces();
}

async function showPlaces() {
  isLoaded = true;
  const { places, hint } = await call("/api/places").catch((error) => ({ places: [], hint: error.message }));
  const countries = new Map(); // those with most photos first
  for (const place of places) countries.set(place.country, [...(countries.get(place.country) || []), town(place)]);
  const groups = [...countries].map(([name, towns]) => make("div", {}, make("p", {}, name), make("div", {}, ...towns)));
  $("places").replaceChildren(...groups, ...(hint ? [make("p", { class: "hint" }, hint)] : []));
  showPlace();
}

function town({ place, place_region: region, country, filter, photos }) {
  const name = place || country;
  const label = [...new Set([name, region, country])].filter(Boolean).join(", ");
  const button = make("button", { type: "button", "aria-pressed": "false", "data-filter": filter, title: label, "aria-label": `${label}: ${counted(photos)}` }, name, " ", make("small", {}, photos));
  button.addEventListener("click", () => {
    state.place = state.place === filter ? "" : filter;
    showPlace(); showAsked(); load(true);
  });
  return button;
}

const { buttons, reach } = roving("places");

export function showPlace() {
  for (const button of buttons()) button.setAttribute("aria-pressed", String(button.dataset.filter === state.place));
  reach(buttons().find((button) => button.dataset.filter === state.place) || buttons()[0]);
}

$("view").addEventListener("click", () => {
  state.view = state.view ? "" : "places";
  showView();
  remember("push");
});
