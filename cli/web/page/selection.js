// The photos that are selected, and what can be done with all of them.

import { $, state, copy, counted, nameOf, post } from "./base.js";
import { showAbout } from "./changes.js";

const MOST = 2000; // that the server takes at once

let anchor = null; // the id of the photo where a range starts

// One photo more or less; with `isRange`, also those up to the last one that was chosen.
export function pick(at, isRange = false) {
  const from = isRange ? state.photos.findIndex(({ id }) => id === anchor) : at;
  const [first, last] = [Math.min(at, from < 0 ? at : from), Math.max(at, from)];
  const isMore = isRange || !state.picked.has(state.photos[at].id);
  for (const photo of state.photos.slice(first, last + 1)) {
    if (isMore) state.picked.set(photo.id, photo); else state.picked.delete(photo.id);
  }
  anchor = state.photos[at].id;
  showPicked();
}

export function pickPhoto(photo) {
  if (!state.picked.delete(photo.id)) state.picked.set(photo.id, photo);
  showPicked();
}

export function clearPicked() {
  const isInside = $("picked").contains(document.activeElement);
  state.picked.clear();
  showPicked();
  if (isInside) $("photos").focus();
}

export function checkbox(photo, at) {
  const box = document.createElement("input");
  box.type = "checkbox";
  box.className = "pick";
  box.checked = state.picked.has(photo.id);
  box.setAttribute("aria-label", `select ${nameOf(photo)}`);
  box.addEventListener("click", (event) => pick(at, event.shiftKey));
  return box;
}

function showPicked() {
  const count = state.picked.size;
  for (const box of $("grid").querySelectorAll(".pick")) box.checked = state.picked.has(Number(box.closest(".card").dataset.id));
  $("picked").hidden = !count;
  document.body.classList.toggle("picking", Boolean(count));
  if (!count) showNote(false);
  $("picked-count").textContent = `${counted(count)} selected`;
  tell(count > MOST ? `more than ${MOST.toLocaleString("en-GB")} are too many at once` : "");
  for (const button of $("picked").querySelectorAll("[data-all]")) button.disabled = count > MOST;
  if (count <= MOST) $("picked-live").textContent = count ? `${counted(count)} selected` : "no photo selected";
}

function tell(text) {
  $("picked-told").textContent = text;
  if (text) $("picked-live").textContent = text;
}

const sizeOf = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`);
const numbers = () => [...state.picked.keys()];

async function download() {
  tell("preparing the archive ...");
  try {
    const { address, photos, bytes } = await post("/api/zip", { photos: numbers() });
    const link = document.createElement("a");
    link.href = address;
    link.download = "photos.zip";
    link.click();
    tell(`downloading ${counted(photos)}, ${sizeOf(bytes)}`);
  } catch (error) {
    tell(error.message);
  }
}

function showNote(isShown) {
  $("note").hidden = !isShown;
  $("show-note").setAttribute("aria-expanded", String(isShown));
  if (isShown) $("note-text").focus();
}

async function addNote() {
  const { size } = state.picked;
  tell("adding the note ...");
  try {
    const { added } = await post("/api/notes", { photos: numbers(), text: $("note-text").value });
    $("note").reset();
    showNote(false);
    $("show-note").focus();
    tell(added ? `note added to ${counted(size)}` : "they have this note already");
    await showAbout();
  } catch (error) {
    tell(error.message);
  }
}

export const isPicked = (photo) => state.picked.has(photo.id);

$("download").addEventListener("click", download);
$("copy-paths").addEventListener("click", () => {
  const paths = [...state.picked.values()].map(({ path }) => `${path}\n`);
  copy(paths.join("")).then(() => tell(`${paths.length === 1 ? "path" : `${paths.length} paths`} copied`), (error) => tell(error.message));
});
$("show-note").addEventListener("click", () => showNote($("note").hidden));
$("note").addEventListener("submit", (event) => { event.preventDefault(); addNote(); });
$("note").addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  event.stopPropagation();
  showNote(false);
  $("show-note").focus();
});
$("clear-picked").addEventListener("click", clearPicked);
$("grid").addEventListener("mousedown", (event) => { if (event.shiftKey) event.preventDefault(); }); // or text is selected
