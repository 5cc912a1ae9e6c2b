// The gallery: asks the API, shows photos. Whatever comes from a photo reaches the page as text, never as markup.
"use strict";

const PAGE = 60;
const SMALL = 320, LARGE = 1920;
const ALL_DAYS = 120; // beyond so many days they are shown by month
const FULL_DAY = 4; // photos a day on average, from which on each day has a heading

const $ = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...inside) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
};

// What is asked now. Pictures: {photo} or {upload}, each with a label and an address to show it by.
const state = { pictures: [], liked: new Map(), disliked: new Map(), day: "", photos: [], more: true, asking: 0, busy: false, at: -1 };

// ---- asking

async function call(path, request = {}) {
  const response = await fetch(path, { credentials: "same-origin", ...request });
  const body = await response.json().catch(() => ({ error: `answer ${response.status}` }));
  if (!response.ok) throw new Error(body.hint ? `${body.error} (${body.hint})` : body.error);
  return body;
}

// `beach -people -"beach umbrella"`: the words, and what is not wanted.
function split(typed) {
  const not = [];
  const text = typed.replace(/(^|\s)-(?:"([^"]+)"|([^\W\d_][^\s]*))/gu, (_, gap, quoted, word) => {
    not.push((quoted || word).trim());
    return gap;
  }).replace(/\s+/g, " ").trim();
  return { text, not: not.filter(Boolean) };
}

function filters() {
  const found = {};
  for (const [name, value] of new FormData($("filters"))) {
    const text = value.trim();
    if (!text || name === "group") continue;
    found[name] = ["camera", "root", "keyword", "orientation"].includes(name) ? [text] : text;
  }
  if (state.day) found.after = found.before = state.day;
  return found;
}

function question() {
  const { text, not } = split($("words").value);
  const asked = { pictures: state.pictures.map(({ photo, upload }) => (photo ? { photo } : { upload })) };
  if (text) asked.text = text;
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

async function load(isNew) {
  if (!isNew && (state.busy || !state.more)) return;
  const number = isNew ? ++state.asking : state.asking;
  state.busy = true;
  if (isNew) $("grid").setAttribute("aria-busy", "true");
  try {
    const offset = isNew ? 0 : state.photos.length + (state.passed || 0);
    const asked = question();
    if (asked && asked.empty) throw new Error("say what to look for as well, not only what not to show");
    const found = asked ? await search(asked, offset) : await browse(offset);
    if (number !== state.asking) return;
    if (isNew) {
      state.photos = []; state.passed = 0; state.at = -1;
      $("grid").replaceChildren();
      window.scrollTo(0, 0);
    }
    state.more = found.more;
    show(found.photos, !asked);
    say(found.said);
  } catch (error) {
    if (number !== state.asking) return;
    state.more = false;
    if (isNew) { state.photos = []; $("grid").replaceChildren(); }
    say(error instanceof TypeError ? "the server does not answer; is `imgsearch serve` still running?" : error.message, true);
  } finally {
    if (number === state.asking) {
      state.busy = false;
      $("grid").removeAttribute("aria-busy");
      watchEnd();
    }
  }
}

async function search(asked, offset) {
  const body = JSON.stringify({ ...asked, filters: filters(), limit: PAGE, offset });
  const answer = await call("/api/search", { method: "POST", headers: { "content-type": "application/json" }, body });
  const count = offset + answer.hits.length;
  const ms = Math.max(1, Math.round(answer.seconds * 1000));
  return {
    photos: answer.hits, more: answer.more,
    said: count ? `${count}${answer.more ? " or more" : ""} photos, best first; ${ms} ms` : "nothing found",
  };
}

async function browse(offset) {
  const wanted = new URLSearchParams({ limit: PAGE, offset });
  for (const [name, value] of Object.entries(filters())) for (const each of [value].flat()) wanted.append(name, each);
  const { photos } = await call(`/api/photos?${wanted}`);
  return {
    photos, more: photos.length === PAGE,
    said: offset + photos.length ? "All photos, newest first" : "no photos",
  };
}

function say(text, isBad = false) {
  $("said").textContent = text;
  $("said").classList.toggle("bad", isBad);
}

// ---- showing

const nameOf = (photo) => photo.path.slice(photo.path.lastIndexOf("/") + 1);
const spanOf = (photo) => (photo.taken_at || "").slice(0, span);
const thumbnail = (photo, side) => `${photo.thumbnail}&side=${side}`;

function show(photos, isTimeline) {
  const seen = new Set(state.photos.map((photo) => photo.id));
  for (const photo of photos) {
    if (seen.has(photo.id)) { state.passed += 1; continue; }
    const last = state.photos[state.photos.length - 1];
    if (isTimeline && (!last || spanOf(last) !== spanOf(photo))) $("grid").append(make("h2", {}, spanTitle(spanOf(photo))));
    state.photos.push(photo);
    $("grid").append(card(photo, state.photos.length - 1));
  }
}

function spanTitle(span) {
  const date = new Date(`${span.length > 7 ? span : `${span}-01`}T12:00:00`);
  if (!span || Number.isNaN(date.getTime())) return "Without a date";
  const day = span.length > 7 ? { weekday: "long", day: "numeric" } : {};
  return date.toLocaleDateString("en-GB", { ...day, month: "long", year: "numeric" });
}

function card(photo, at) {
  const image = make("img", { loading: "lazy", decoding: "async", alt: nameOf(photo), src: thumbnail(photo, SMALL) });
  const open = make("button", { type: "button", class: "open", "data-at": at }, image);
  open.addEventListener("click", () => look(at));
  const name = make("span", {}, nameOf(photo));
  const text = make("figcaption", {}, name);
  if (photo.score !== undefined) name.append(" ", make("small", {}, photo.score.toFixed(3)));
  for (const [verb, sign] of [["like", "▲"], ["dislike", "▼"]]) {
    const button = make("button", { type: "button", class: verb, "aria-pressed": isMarked(photo, verb), "aria-label": `${verb} ${nameOf(photo)}` }, sign);
    button.addEventListener("click", () => mark(photo, verb));
    text.append(button);
  }
  const figure = make("figure", { class: "card", "data-id": photo.id }, open, text);
  if (photo.members) figure.append(make("span", { class: "badge" }, `+${photo.members.length}`));
  return figure;
}

const isMarked = (photo, verb) => String(state[`${verb}d`].has(photo.id));

// What is liked draws the answer there; the grid is asked anew.
function mark(photo, verb) {
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

// ---- what is asked, as chips

function showAsked() {
  const chips = [];
  state.pictures.forEach((picture, at) => chips.push(chip(picture.src, picture.label, () => state.pictures.splice(at, 1))));
  for (const [map, word] of [[state.liked, "liked"], [state.disliked, "not liked"]]) {
    for (const photo of map.values()) chips.push(chip(thumbnail(photo, 160), `${word}: ${nameOf(photo)}`, () => map.delete(photo.id)));
  }
  if (state.day) chips.push(chip(null, state.day, () => { state.day = ""; showDay(); }));
  $("asked").replaceChildren(...chips);
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

async function bring(file) {
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

function moreLike(photo) {
  state.pictures = [{ photo: photo.id, label: nameOf(photo), src: thumbnail(photo, 160) }];
  $("words").value = "";
  close();
  showAsked();
  load(true);
}

// ---- one photo

function look(at) {
  const photo = state.photos[at];
  if (!photo) return;
  state.at = at;
  $("large").src = thumbnail(photo, LARGE);
  $("large").alt = nameOf(photo);
  $("save").href = `/api/photos/${photo.id}/original`;
  describe(photo);
  if (!$("look").open) $("look").showModal();
  if (at > state.photos.length - 10) load(false);
}

function describe(photo) {
  $("name").textContent = nameOf(photo);
  const place = photo.latitude == null ? "" : `${photo.latitude.toFixed(5)}, ${photo.longitude.toFixed(5)}`;
  const facts = {
    Score: photo.score === undefined ? "" : `${photo.score.toFixed(4)} (${photo.method})`,
    Taken: (photo.taken_at || "").replace("T", " "), Size: `${photo.width} × ${photo.height} ${photo.format || ""}`,
    Camera: photo.camera, Lens: photo.lens, Place: place, Stars: photo.rating,
    Keywords: (photo.keywords || []).join(", "), Text: photo.text,
    Stands_for: photo.members ? photo.members.map((each) => each.path).join("\n") : "", Path: photo.path,
  };
  const lines = Object.entries(facts).filter(([, value]) => value !== null && value !== undefined && value !== "");
  $("facts").replaceChildren(...lines.flatMap(([name, value]) => [make("dt", {}, name.replace("_", " ")), make("dd", {}, String(value))]));
  for (const verb of ["like", "dislike"]) $("look").querySelector(`[data-act="${verb}"]`).setAttribute("aria-pressed", isMarked(photo, verb));
}

function close() {
  if ($("look").open) $("look").close();
}

$("look").addEventListener("close", () => {
  $("large").removeAttribute("src");
  const at = state.at;
  if (state.isStale) { state.isStale = false; load(true); } else focusCard(at);
});

const acts = {
  more: (photo) => moreLike(photo), like: (photo) => mark(photo, "like"), dislike: (photo) => mark(photo, "dislike"),
  prev: () => look(state.at - 1), next: () => look(state.at + 1), close,
  copy: (photo) => navigator.clipboard?.writeText(photo.path).then(() => say("copied"), () => say("the browser does not let it be copied", true)),
};
$("look").addEventListener("click", (event) => {
  const act = event.target.closest("[data-act]");
  if (act) acts[act.dataset.act](state.photos[state.at]);
});

// ---- days

let span = 10; // of a date: the day, or only the month where a day has few photos

async function showDays() {
  const { days } = await call("/api/days").catch(() => ({ days: [] }));
  span = days.reduce((sum, { photos }) => sum + photos, 0) < FULL_DAY * days.length ? 7 : 10;
  const length = days.length > ALL_DAYS ? 7 : 10;
  const spans = new Map();
  for (const { day, photos } of days) spans.set(day.slice(0, length), (spans.get(day.slice(0, length)) || 0) + photos);
  const most = Math.max(...spans.values());
  $("days").hidden = spans.size < 2;
  $("days").replaceChildren(...[...spans].slice(0, 600).map(([day, count]) => bar(day, count, most)));
}

function bar(day, count, most) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const height = Math.max(2, Math.round((20 * count) / most));
  svg.setAttribute("viewBox", "0 0 12 20");
  svg.setAttribute("aria-hidden", "true");
  for (const [name, value] of Object.entries({ x: 0, width: 12, y: 20 - height, height, rx: 1 })) rect.setAttribute(name, value);
  svg.append(rect);
  const button = make("button", { type: "button", "aria-pressed": "false", "data-day": day, "aria-label": `${day}: ${count} photos` }, svg, day);
  button.addEventListener("click", () => {
    state.day = state.day === day ? "" : day;
    showDay(); showAsked(); load(true);
  });
  return button;
}

function showDay() {
  for (const button of $("days").children) button.setAttribute("aria-pressed", String(button.dataset.day === state.day));
}

async function showAbout() {
  const about = await call("/api/about").catch(() => null);
  if (!about) return;
  $("cameras").replaceChildren(...about.cameras.map(({ camera }) => make("option", { value: camera })));
  for (const { path } of about.roots) $("filters").elements.root.append(make("option", { value: path }, path));
}

// ---- hands

let later = 0;
const soon = () => { clearTimeout(later); later = setTimeout(() => load(true), 250); };

$("ask").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(later); showAsked(); load(true); });
$("words").addEventListener("input", () => { showAsked(); if (!$("words").value) soon(); });
$("weight").addEventListener("input", () => {
  $("weight").setAttribute("aria-valuetext", `words ${$("weight").value} percent`);
  soon();
});
$("filters").addEventListener("input", soon);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("reset", soon);
$("show-filters").addEventListener("click", () => {
  $("filters").hidden = !$("filters").hidden;
  $("show-filters").setAttribute("aria-expanded", String(!$("filters").hidden));
});
$("pick").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { bring($("file").files[0]); $("file").value = ""; });
$("home").addEventListener("click", (event) => {
  event.preventDefault();
  $("words").value = ""; state.pictures = []; state.day = ""; state.liked.clear(); state.disliked.clear();
  $("filters").reset(); clearTimeout(later); showDay(); showAsked(); load(true);
});

const hasFile = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
let depth = 0;
addEventListener("dragenter", (event) => { if (hasFile(event)) { depth += 1; $("drop").hidden = false; } });
addEventListener("dragleave", (event) => { if (hasFile(event) && --depth <= 0) { depth = 0; $("drop").hidden = true; } });
addEventListener("dragover", (event) => { if (hasFile(event)) event.preventDefault(); });
addEventListener("drop", (event) => {
  if (!hasFile(event)) return;
  event.preventDefault();
  depth = 0;
  $("drop").hidden = true;
  close();
  bring(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files || [])].find((each) => each.type.startsWith("image/"));
  if (file) { event.preventDefault(); bring(file); }
});

const cards = () => [...$("grid").querySelectorAll(".open")];
function focusCard(at) {
  const wanted = cards()[at];
  if (wanted) { wanted.focus(); wanted.scrollIntoView({ block: "nearest" }); }
}

// The card below or above: the nearest across in the next row.
function beside(at, step) {
  const all = cards();
  const from = all[at].getBoundingClientRect();
  for (let i = at + step, row = null; all[i]; i += step) {
    const box = all[i].getBoundingClientRect();
    if (Math.abs(box.top - from.top) < 5) continue;
    row = row ?? box.top;
    if (Math.abs(box.top - row) > 5) return i - step;
    if (step > 0 ? box.left >= from.left - 5 : box.left <= from.left + 5) return i;
    if (!all[i + step]) return i;
  }
  return at;
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.closest("input, select, textarea");
  const isLooking = $("look").open;
  if (isTyping && !isLooking) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const at = isLooking ? state.at : Number(document.activeElement?.dataset?.at ?? -1);
  const photo = state.photos[at];
  const keys = isLooking
    ? { ArrowLeft: acts.prev, ArrowRight: acts.next, m: () => acts.more(photo), l: () => acts.like(photo), d: () => acts.dislike(photo), c: () => acts.copy(photo) }
    : { "/": () => $("words").focus(), f: () => $("show-filters").click() };
  if (!isLooking && photo) Object.assign(keys, {
    ArrowLeft: () => focusCard(at - 1), ArrowRight: () => focusCard(at + 1),
    ArrowUp: () => focusCard(beside(at, -1)), ArrowDown: () => focusCard(beside(at, 1)),
    m: () => moreLike(photo), l: () => mark(photo, "like"), d: () => mark(photo, "dislike"),
  });
  else if (!isLooking && event.target === document.body) keys.ArrowDown = () => focusCard(0);
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

const end = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) load(false); }, { rootMargin: "800px" });
function watchEnd() { // asked anew after each page: an end that stays in sight says nothing by itself
  end.unobserve($("end"));
  if (state.more) end.observe($("end"));
}

showAbout();
showAsked();
showDays().finally(() => load(true));
