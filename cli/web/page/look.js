// One photo, large, with what is known about it.

import { forgetPhoto, openPhoto, rememberPhoto } from "./address.js";
import { SMALL, LARGE, SVG, $, make, state, call, copy, momentOf, nameOf, say, thumbnail } from "./base.js";
import { frame, isMarked, mark, focusCard } from "./cards.js";
import { moreLike } from "./chips.js";
import { load } from "./query.js";
import { isPicked, pickPhoto } from "./selection.js";

export function look(at) {
  const photo = state.photos[at];
  if (!photo) return;
  state.at = at;
  lookAt(photo);
  if (at > state.photos.length - 10) load(false);
}

function lookAt(photo) {
  state.photo = photo;
  $("large").src = thumbnail(photo, LARGE);
  $("large").alt = nameOf(photo);
  $("save").href = `/api/photos/${photo.id}/original`;
  frameLarge(photo);
  $("told").textContent = "";
  describe(photo);
  showTexts(photo);
  if (playing) { $("slide").textContent = nameOf(photo); fadeIn(); }
  $("look").querySelector(".prev").hidden = !state.photos[state.at - 1];
  $("look").querySelector(".next").hidden = !state.photos[state.at + 1];
  rememberPhoto(photo, !$("look").open);
  if (!$("look").open) $("look").showModal();
}

// The frame is as large as the picture: a drawing of the same size that fits into the same room.
function frameLarge(photo) {
  $("large").parentNode.querySelector(".region")?.remove();
  if (!photo.region) return;
  const scale = Math.min(1, LARGE / Math.max(photo.width, photo.height));
  const inner = frame(photo.region, [0, 0, 1, 1]), svg = document.createElementNS(SVG, "svg");
  const size = [Math.round(scale * photo.width), Math.round(scale * photo.height)];
  svg.setAttribute("class", "region");
  svg.setAttribute("viewBox", `0 0 ${size.join(" ")}`);
  svg.setAttribute("width", size[0]);
  svg.setAttribute("height", size[1]);
  inner.removeAttribute("class");
  svg.append(inner);
  $("large").after(svg);
}

export function describe(photo) {
  $("name").textContent = nameOf(photo);
  const names = new Set([photo.place_district, photo.place, photo.place_region, photo.country]);
  const degrees = photo.latitude == null ? "" : `${photo.latitude.toFixed(5)}, ${photo.longitude.toFixed(5)}`;
  const place = [...names, degrees].filter(Boolean).join(", ");
  const facts = {
    Score: photo.score == null ? "" : `${photo.score.toFixed(4)} (${photo.method})`,
    Taken: (photo.taken_at || "").replace("T", " "), Size: photo.width ? `${photo.width} × ${photo.height} ${photo.format || ""}` : "",
    Video: momentOf(photo), Camera: photo.camera, Lens: photo.lens, Place: place, Stars: photo.rating,
    Keywords: (photo.keywords || []).join(", "), Path: photo.path,
  };
  const lines = Object.entries(facts).filter(([, value]) => value !== null && value !== undefined && value !== "");
  $("facts").replaceChildren(...lines.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
  for (const verb of ["like", "dislike"]) $("look").querySelector(`[data-act="${verb}"]`).setAttribute("aria-pressed", isMarked(photo, verb));
  $("look").querySelector('[data-act="pick"]').setAttribute("aria-pressed", String(isPicked(photo)));
  const members = (photo.members || []).map((each) => make("img", { src: thumbnail(each, SMALL), alt: nameOf(each), title: each.path }));
  $("members").hidden = !members.length;
  $("members").querySelector("div").replaceChildren(...members);
}

// What stands in the photo or beside it, and the notes about it.
async function showTexts(photo) {
  $("texts").replaceChildren();
  const { texts = [] } = await call(`/api/photos/${photo.id}`).catch(() => ({}));
  if (state.photo !== photo) return;
  $("texts").replaceChildren(...texts.map(({ text, source }) => make("blockquote", {}, text, make("small", {}, source))));
}

export function close() {
  if ($("look").open) $("look").close();
}

$("look").addEventListener("close", () => {
  $("large").removeAttribute("src");
  if (playing) play(false);
  const at = state.at;
  if (state.isStale) { state.isStale = false; load(true, "replace"); return; }
  forgetPhoto();
  focusCard(at);
});

// The photo that the address names, which need not be among those on the page.
export async function lookAtAddress() {
  const id = openPhoto();
  if (!id) { close(); return; }
  const at = state.photos.findIndex((photo) => photo.id === id);
  if (at >= 0) { look(at); return; }
  const photo = await call(`/api/photos/${id}`).catch(() => null);
  if (openPhoto() !== id) return;
  state.at = -1;
  if (photo) lookAt(photo); else { say(`no photo ${id} is in the index`, true); forgetPhoto(); }
}

// ---- slideshow

const SLIDE_MS = 4000;
let playing = false, timer = 0;

function play(isOn, said = isOn ? "slideshow runs" : "slideshow stopped") {
  playing = isOn;
  clearTimeout(timer);
  $("look").classList.toggle("playing", isOn);
  $("look").querySelector(".play").setAttribute("aria-pressed", String(isOn));
  $("slide").textContent = said;
  if (isOn) timer = setTimeout(step, SLIDE_MS);
}

function step() {
  if (document.hidden || state.busy) { timer = setTimeout(step, SLIDE_MS); return; }
  if (state.photos[state.at + 1]) look(state.at + 1); else play(false, "slideshow stopped: this is the last photo");
}

function fadeIn() {
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) $("large").animate({ opacity: [0, 1] }, 500);
}

// Each photo is shown as long, however long it takes to come.
for (const event of ["load", "error"]) $("large").addEventListener(event, () => {
  if (!playing) return;
  clearTimeout(timer);
  timer = setTimeout(step, SLIDE_MS);
});

export const acts = {
  more: (photo) => moreLike(photo), like: (photo) => mark(photo, "like"), dislike: (photo) => mark(photo, "dislike"),
  prev: () => look(state.at - 1), next: () => look(state.at + 1), close,
  play: () => play(!playing),
  pick: (photo) => { pickPhoto(photo); describe(photo); },
  copy: (photo) => {
    const tell = (text) => { $("told").textContent = text; };
    copy(photo.path).then(() => tell("path copied"), (error) => tell(error.message));
  },
};
$("look").addEventListener("click", (event) => {
  const act = event.target.closest("[data-act]");
  if (act) acts[act.dataset.act](state.photo);
});
