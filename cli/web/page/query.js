// The query: what is asked, and the pages of its answer.

import { remember } from "./address.js";
import { $, state, call, post, say, counted } from "./base.js";
import { show } from "./cards.js";
import { showAsked } from "./chips.js";
import { hideTries, showTries } from "./tries.js";

const PAGE = 60;

// `beach -people -"beach umbrella"`: the words, and the words to exclude.
export function split(typed) {
  const not = [];
  const text = typed.replace(/(^|\s)-(?:"([^"]+)"|([^\W\d_][^\s]*))/gu, (_, gap, quoted, word) => {
    not.push((quoted || word).trim());
    return gap;
  }).replace(/\s+/g, " ").trim();
  return { text, not: not.filter(Boolean) };
}

export function narrowing() {
  const found = {};
  for (const [name, value] of new FormData($("filters"))) {
    const text = value.trim();
    if (!text || name === "group") continue;
    found[name] = ["camera", "root", "keyword", "orientation"].includes(name) ? [text] : text;
  }
  if (state.day) found.after = found.before = state.day;
  if (state.place) found.place = [state.place];
  return found;
}

export function question() {
  const { text, not } = split($("words").value);
  const asked = { pictures: state.pictures.map(({ photo, upload }) => (photo ? { photo } : { upload })) };
  if (text) Object.assign(asked, { text, natural: true });
  if (not.length) asked.not = not;
  if (state.liked.size) asked.more_like = [...state.liked.keys()];
  if (state.disliked.size) asked.less_like = [...state.disliked.keys()];
  if (!text && !asked.pictures.length && !state.liked.size) {
    if (not.length || state.disliked.size) asked.empty = true;
    else return null;
  }
  const group = $("filters").elements.group.value;
  if (group) asked.group = group;
  if (text && asked.pictures.length) asked.weight = $("weight").value / 100;
  return asked;
}

// `how` a new question is remembered, for the browser's way back: "push", "replace", or not.
export async function load(isNew, how = "push") {
  if (!isNew && (state.busy || !state.more)) return;
  if (isNew) remember(how);
  const number = isNew ? ++state.asking : state.asking;
  state.busy = true;
  if (isNew) $("grid").setAttribute("aria-busy", "true");
  try {
    const offset = isNew ? 0 : state.photos.length + state.passed;
    const asked = question();
    if (!asked) state.phrases = [];
    if (asked && asked.empty) throw new Error("the query only excludes; add what to look for");
    const found = asked ? await search(asked, offset) : await browse(offset);
    if (number !== state.asking) return;
    if (isNew) {
      state.photos = []; state.passed = 0; state.at = -1;
      $("grid").replaceChildren();
      window.scrollTo(0, 0);
    }
    state.more = found.more;
    state.failed = false;
    if (isNew) { state.phrases = found.phrases || []; showAsked(); }
    show(found.photos, found.isTimeline);
    say(found.said);
    none(state.photos.length ? "" : found.said);
    if (!state.photos.length) showTries();
  } catch (error) {
    if (number !== state.asking) return;
    state.more = false;
    state.failed = true;
    if (isNew) { state.photos = []; $("grid").replaceChildren(); }
    const said = error instanceof TypeError ? "the server does not answer; is `imgsearch serve` still running?" : error.message;
    say(said, true);
    none(said, true);
  } finally {
    if (number === state.asking) {
      state.busy = false;
      $("grid").removeAttribute("aria-busy");
      watchEnd();
    }
  }
}

export async function search(asked, offset) {
  const answer = await post("/api/search", { ...asked, filters: narrowing(), limit: PAGE, offset });
  const count = offset + answer.hits.length;
  const ms = Math.max(1, Math.round(answer.seconds * 1000));
  const isTimeline = answer.hits.some((hit) => hit.score === null); // nothing was left to rank by
  return {
    photos: answer.hits, more: answer.more, phrases: answer.phrases, isTimeline,
    said: count ? `${answer.more ? `${count} or more photos` : counted(count)}, ${isTimeline ? "oldest" : "best"} first; ${ms} ms` : "nothing found",
  };
}

async function browse(offset) {
  const photos = await listed(narrowing(), PAGE, offset);
  return {
    photos, more: photos.length === PAGE, isTimeline: true,
    said: offset + photos.length ? `${isFiltered() ? "Photos" : "All photos"}, newest first` : "no photos",
  };
}

async function listed(filters, limit, offset) {
  const wanted = new URLSearchParams({ limit, offset });
  for (const [name, value] of Object.entries(filters)) for (const each of [value].flat()) wanted.append(name, each);
  return (await call(`/api/photos?${wanted}`)).photos;
}

// Whether this query would find something with these filters.
export async function finds(asked, filters) {
  const { text, ...rest } = asked || {};
  if (!text && !rest.pictures?.length && !rest.more_like) return (await listed(filters, 1, 0)).length > 0;
  return (await post("/api/search", { ...asked, filters, limit: 1 })).hits.length > 0;
}

const isFiltered = () => Object.keys(narrowing()).length + state.phrases.length > 0;

// The message in place of photos, and the buttons for it.
function none(text, isBad = false) {
  $("none").hidden = !text;
  hideTries();
  $("said").classList.toggle("hidden", Boolean(text)); // where only a screen reader needs to hear it
  $("none").classList.toggle("bad", isBad);
  $("none").querySelector("p").textContent = text && (isBad ? text : isFiltered() ? `${text} within these filters` : text);
  $("again").hidden = !isBad;
  $("clear").hidden = !isFiltered();
}

const end = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) load(false); }, { rootMargin: "800px" });
function watchEnd() { // observe again after each page: an end that stays visible fires no event
  end.unobserve($("end"));
  if (state.more) end.observe($("end"));
}
