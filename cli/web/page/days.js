// The bar of days, or of months.

import { SVG, $, make, state, call, counted } from "./base.js";
import { spanTitle } from "./cards.js";
import { showAsked } from "./chips.js";
import { load } from "./query.js";

const ALL_DAYS = 120; // with more days, months are shown
const MAX_BARS = 600;
const FULL_DAY = 4; // average photos per day from which each day has a heading

export let span = 10; // of a date: the day, or only the month where a day has few photos

export async function showDays() {
  const { days: found } = await call("/api/days").catch(() => ({ days: [] }));
  span = found.reduce((sum, { photos }) => sum + photos, 0) < FULL_DAY * found.length ? 7 : 10;
  const length = found.length > ALL_DAYS ? 7 : 10;
  const spans = new Map();
  for (const { day, photos } of found) spans.set(day.slice(0, length), (spans.get(day.slice(0, length)) || 0) + photos);
  const most = Math.max(...spans.values());
  const groups = new Map(); // the days of each month, or the months of each year
  for (const [day, count] of [...spans].slice(0, MAX_BARS)) {
    const group = length === 7 ? day.slice(0, 4) : spanTitle(day.slice(0, 7));
    groups.set(group, [...(groups.get(group) || []), bar(day, count, most)]);
  }
  $("days").hidden = spans.size < 2;
  $("days").replaceChildren(...[...groups].map(([name, bars]) => make("div", {}, make("p", {}, name), make("div", {}, ...bars))));
  showDay();
}

function bar(day, count, most) {
  const svg = document.createElementNS(SVG, "svg"), rect = document.createElementNS(SVG, "rect");
  const height = Math.max(2, Math.round((20 * count) / most));
  svg.setAttribute("viewBox", "0 0 10 20");
  svg.setAttribute("aria-hidden", "true");
  for (const [name, value] of Object.entries({ x: 0, width: 10, y: 20 - height, height, rx: 1.5 })) rect.setAttribute(name, value);
  svg.append(rect);
  const label = day.length > 7 ? String(Number(day.slice(8))) : new Date(`${day}-15T12:00:00`).toLocaleDateString("en-GB", { month: "short" });
  const button = make("button", { type: "button", "aria-pressed": "false", "data-day": day, "aria-label": `${day}: ${counted(count)}` }, svg, label);
  button.addEventListener("click", () => {
    state.day = state.day === day ? "" : day;
    showDay(); showAsked(); load(true);
  });
  return button;
}

// Of the buttons in an element one is reached by Tab, the others from there by the arrows.
export function roving(id) {
  const buttons = () => [...$(id).querySelectorAll("button")];
  const reach = (wanted) => { for (const button of buttons()) button.tabIndex = button === wanted ? 0 : -1; };
  $(id).addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const all = buttons();
    const next = all[all.indexOf(event.target) + step];
    if (!step || !next) return;
    event.preventDefault();
    event.stopPropagation();
    reach(next);
    next.focus();
  });
  return { buttons, reach };
}

const days = roving("days");

export function showDay() {
  const all = days.buttons();
  for (const button of all) button.setAttribute("aria-pressed", String(button.dataset.day === state.day));
  days.reach(all.find((button) => button.dataset.day === state.day) || all[0]);
}
