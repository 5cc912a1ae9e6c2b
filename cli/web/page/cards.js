// The grid of photos.

import { MIDDLE, SVG, $, make, state, clock, momentOf, nameOf, thumbnail, icon } from "./base.js";
import { showAsked } from "./chips.js";
import { span } from "./days.js";
import { look, describe } from "./look.js";
import { load } from "./query.js";
import { checkbox, pick } from "./selection.js";

const NARROWEST = 0.6, WIDEST = 2.4; // aspect ratios; the grid crops what is narrower or wider

const spanOf = (photo) => (photo.taken_at || "").slice(0, span);

export function show(photos, isTimeline) {
  const seen = new Set(state.photos.map((photo) => photo.id));
  for (const photo of photos) {
    if (seen.has(photo.id)) { state.passed += 1; continue; }
    const last = state.photos[state.photos.length - 1];
    if (isTimeline && (!last || spanOf(last) !== spanOf(photo))) {
      if (last) $("grid").append(make("div", { class: "fill" }));
      $("grid").append(make("h2", {}, spanTitle(spanOf(photo))));
    }
    state.photos.push(photo);
    $("grid").append(card(photo, state.photos.length - 1));
  }
}

export function spanTitle(span) {
  const date = new Date(`${span.length > 7 ? span : `${span}-01`}T12:00:00`);
  if (!span || Number.isNaN(date.getTime())) return "Without a date";
  const day = span.length > 7 ? { weekday: "long", day: "numeric" } : {};
  return date.toLocaleDateString("en-GB", { ...day, month: "long", year: "numeric" });
}

function card(photo, at) {
  const moment = momentOf(photo);
  const image = make("img", { loading: "lazy", decoding: "async", alt: moment ? `${nameOf(photo)}, video, ${moment}` : nameOf(photo) });
  const figure = make("figure", { class: "card", "data-id": photo.id });
  const ratio = photo.width && photo.height ? photo.width / photo.height : 1;
  const shown = Math.min(WIDEST, Math.max(NARROWEST, ratio));
  figure.style.setProperty("--ratio", shown.toFixed(3));
  image.sizes = `${Math.round(1.2 * shown * rowHeight())}px`;
  image.srcset = MIDDLE.map((side) => `${thumbnail(photo, side)} ${Math.round(side * Math.min(1, ratio))}w`).join(", ");
  const open = make("button", { type: "button", class: "open", "data-at": at }, image);
  if (photo.region) {
    const [x, across] = visible(photo.region[0] + photo.region[2] / 2, ratio / shown);
    const [y, down] = visible(photo.region[1] + photo.region[3] / 2, shown / ratio);
    image.style.objectPosition = `${across < 1 ? 100 * x / (1 - across) : 50}% ${down < 1 ? 100 * y / (1 - down) : 50}%`;
    open.append(frame(photo.region, [x, y, across, down]));
  }
  open.addEventListener("click", (event) => {
    if (event.shiftKey || event.ctrlKey || event.metaKey) pick(at, event.shiftKey); else look(at);
  });
  const name = make("span", {}, nameOf(photo));
  const text = make("figcaption", {}, name);
  if (photo.score != null) name.prepend(make("small", {}, photo.score.toFixed(3)), " ");
  for (const verb of ["like", "dislike"]) {
    const button = make("button", { type: "button", class: verb, "aria-pressed": isMarked(photo, verb), "aria-label": `${verb} ${nameOf(photo)}` }, icon("thumb"));
    button.addEventListener("click", () => mark(photo, verb));
    text.append(button);
  }
  figure.append(open, checkbox(photo, at), text);
  if (photo.members) figure.append(make("span", { class: "badge" }, `+${photo.members.length}`));
  if (moment) figure.append(make("span", { class: "badge" }, `▶ ${clock(photo.at ?? photo.duration_seconds)}`));
  return figure;
}

// The part of one side that the grid shows, with `middle` as near to its middle as can be: its start and length.
function visible(middle, times) {
  const length = Math.min(1, 1 / times);
  return [Math.min(1 - length, Math.max(0, middle - length / 2)), length];
}

// A frame around the part of a panorama that was found. `seen` is the part of the picture that is shown.
export function frame(region, seen) {
  const svg = document.createElementNS(SVG, "svg"), rect = document.createElementNS(SVG, "rect");
  svg.setAttribute("class", "region");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("viewBox", seen.join(" "));
  svg.setAttribute("preserveAspectRatio", "none");
  ["x", "y", "width", "height"].forEach((name, at) => rect.setAttribute(name, region[at]));
  svg.append(rect);
  return svg;
}

const rowHeight = () => parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row")) * 16;

export const isMarked = (photo, verb) => String(state[`${verb}d`].has(photo.id));

// Likes and dislikes change the ranking: search again.
export function mark(photo, verb) {
  const [here, there] = verb === "like" ? [state.liked, state.disliked] : [state.disliked, state.liked];
  if (!here.delete(photo.id)) here.set(photo.id, photo);
  there.delete(photo.id);
  for (const figure of $("grid").querySelectorAll(`[data-id="${photo.id}"]`)) {
    for (const each of ["like", "dislike"]) figure.querySelector(`.${each}`).setAttribute("aria-pressed", isMarked(photo, each));
  }
  if ($("look").open) describe(photo);
  showAsked();
  if (!$("look").open) load(true); else state.isStale = true;
}

const cards = () => [...$("grid").querySelectorAll(".open")];
export function focusCard(at) {
  const wanted = cards()[at];
  if (wanted) { wanted.focus(); wanted.scrollIntoView({ block: "nearest" }); }
}

// The card below or above: in the next row, the one whose middle is nearest.
export function beside(at, step) {
  const all = cards();
  const middle = (box) => box.left + box.width / 2;
  const from = all[at].getBoundingClientRect();
  let best = at, least = Infinity, row = null;
  for (let i = at + step; all[i]; i += step) {
    const box = all[i].getBoundingClientRect();
    if (Math.abs(box.top - from.top) < 5) continue;
    row = row ?? box.top;
    if (Math.abs(box.top - row) > 5) break;
    const away = Math.abs(middle(box) - middle(from));
    if (away < least) [best, least] = [i, away];
  }
  return best;
}
