// The address of the page: the query, the view and the open photo. All of it can be shared, and the token is not in it.

import { SMALL, $, state, call, nameOf, thumbnail } from "./base.js";
import { showAsked } from "./chips.js";
import { showView } from "./places.js";

const WEIGHT = "80";

// The query, without the open photo.
function address() {
  const found = new URLSearchParams();
  const add = (name, value) => { if (value) found.append(name, value); };
  add("q", $("words").value.trim());
  for (const { photo, upload } of state.pictures) add(photo ? "picture" : "upload", photo || upload);
  if (state.pictures.length && $("weight").value !== WEIGHT) add("weight", $("weight").value);
  for (const id of state.liked.keys()) add("like", id);
  for (const id of state.disliked.keys()) add("dislike", id);
  for (const [name, value] of new FormData($("filters"))) add(name, value.trim());
  add("day", state.day);
  add("place", state.place);
  add("view", state.view);
  return String(found);
}

const withPhoto = (query, photo) => `?${query}${query && photo ? "&" : ""}${photo ? `photo=${photo.id}` : ""}`;

function go(how, address, more = {}) {
  const labels = Object.fromEntries(state.pictures.filter(({ upload }) => upload).map(({ upload, label }) => [upload, label]));
  history[`${how}State`]({ labels, ...more }, "", address === "?" ? location.pathname : address);
}

export function remember(how) {
  const now = address();
  if (how) go(how === "push" && now !== state.address ? "push" : "replace", withPhoto(now));
  state.address = now;
}

// An open photo is one step of the browser's way back; the next one takes its place.
export function rememberPhoto(photo, isFirst) {
  if (openPhoto() === photo.id) return;
  go(isFirst ? "push" : "replace", withPhoto(state.address, photo), { isOpened: isFirst || history.state?.isOpened });
}

export function forgetPhoto() {
  if (!openPhoto()) return;
  if (history.state?.isOpened) history.back(); else go("replace", withPhoto(state.address));
}

// The id in the address.
export const openPhoto = () => Number(new URLSearchParams(location.search).get("photo")) || null;

// Whether the address has another query than the page.
export function isElsewhere() {
  const query = new URLSearchParams(location.search);
  query.delete("photo");
  return String(query) !== state.address;
}

export async function restore() {
  const query = new URLSearchParams(location.search);
  const known = new Map([...state.photos, ...state.liked.values(), ...state.disliked.values()].map((photo) => [photo.id, photo]));
  const photos = async (name) => {
    const found = query.getAll(name).map((id) => known.get(Number(id)) || call(`/api/photos/${encodeURIComponent(id)}`).catch(() => null));
    return (await Promise.all(found)).filter(Boolean);
  };
  const [pictures, liked, disliked] = await Promise.all([photos("picture"), photos("like"), photos("dislike")]);
  const uploads = query.getAll("upload").map((upload) => state.pictures.find((picture) => picture.upload === upload) || { upload, label: history.state?.labels?.[upload] || "a picture" });
  state.pictures = [...pictures.map((photo) => ({ photo: photo.id, label: nameOf(photo), src: thumbnail(photo, SMALL) })), ...uploads];
  state.liked = new Map(liked.map((photo) => [photo.id, photo]));
  state.disliked = new Map(disliked.map((photo) => [photo.id, photo]));
  Object.assign(state, { phrases: [], day: query.get("day") || "", place: query.get("place") || "", view: query.get("view") === "places" ? "places" : "" });
  $("words").value = query.get("q") || "";
  $("weight").value = query.get("weight") || WEIGHT;
  const fields = [...$("filters").elements].filter(({ name }) => name);
  for (const field of fields) field.value = query.get(field.name) || "";
  if (fields.some(({ value }) => value)) showFilters(true); // what narrows the answer is in sight
  sayWeight();
  showView();
  showAsked();
}

export const sayWeight = () => $("weight").setAttribute("aria-valuetext", `words ${$("weight").value} percent`);

export function showFilters(isShown) {
  $("filters").hidden = !isShown;
  $("show-filters").setAttribute("aria-expanded", String(isShown));
}
