// The gallery: queries the API and shows photos. Texts of photos are inserted as text, never as markup.
"use strict";

const PAGE = 60;
const SMALL = 160, MIDDLE = [320, 640], LARGE = 1920;
const NARROWEST = 0.6, WIDEST = 2.4; // aspect ratios; the grid crops what is narrower or wider
const LOOK_MS = 10000; // between checks for changes of the index
const ALL_DAYS = 120; // with more days, months are shown
const MAX_BARS = 600;
const FULL_DAY = 4; // average photos per day from which each day has a heading

const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...inside) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
};

// The current query. Pictures: {photo} or {upload}, each with a label and a URL.
const state = {
  pictures: [], liked: new Map(), disliked: new Map(), day: "", // asked
  photos: [], passed: 0, more: true, asking: 0, busy: false, failed: false, edition: null, phrases: [], // answered
  at: -1, photo: null, isStale: false, // looked at
};

// ---- asking

async function call(path, request = {}) {
  const response = await fetch(path, { credentials: "same-origin", ...request });
  const body = await response.json().catch(() => ({ error: `answer ${response.status}` }));
  if (!response.ok) throw new Error(body.hint ? `${body.error} (${body.hint})` : body.error);
  return body;
}

// `beach -people -"beach umbrella"`: the words, and the words to exclude.
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
async function load(isNew, how = "push") {
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

async function search(asked, offset) {
  const body = JSON.stringify({ ...asked, filters: filters(), limit: PAGE, offset });
  const answer = await call("/api/search", { method: "POST", headers: { "content-type": "application/json" }, body });
  const count = offset + answer.hits.length;
  const ms = Math.max(1, Math.round(answer.seconds * 1000));
  const isTimeline = answer.hits.some((hit) => hit.score === null); // nothing was left to rank by
  return {
    photos: answer.hits, more: answer.more, phrases: answer.phrases, isTimeline,
    said: count ? `${answer.more ? `${count} or more photos` : counted(count)}, ${isTimeline ? "oldest" : "best"} first; ${ms} ms` : "nothing found",
  };
}

async function browse(offset) {
  const wanted = new URLSearchParams({ limit: PAGE, offset });
  for (const [name, value] of Object.entries(filters())) for (const each of [value].flat()) wanted.append(name, each);
  const { photos } = await call(`/api/photos?${wanted}`);
  return {
    photos, more: photos.length === PAGE, isTimeline: true,
    said: offset + photos.length ? `${isFiltered() ? "Photos" : "All photos"}, newest first` : "no photos",
  };
}

const counted = (count) => `${count} ${count === 1 ? "photo" : "photos"}`;
const isFiltered = () => Object.keys(filters()).length + state.phrases.length > 0;

// The message in place of photos, and the buttons for it.
function none(text, isBad = false) {
  $("none").hidden = !text;
  $("said").classList.toggle("hidden", Boolean(text)); // where only a screen reader needs to hear it
  $("none").classList.toggle("bad", isBad);
  $("none").querySelector("p").textContent = text && (isBad ? text : isFiltered() ? `${text} within these filters` : text);
  $("again").hidden = !isBad;
  $("clear").hidden = !isFiltered();
}

// ---- the way back

const slim = ({ id, path, thumbnail }) => ({ id, path, thumbnail });

function asked() {
  return {
    words: $("words").value, weight: $("weight").value, day: state.day, pictures: state.pictures,
    filters: Object.fromEntries(new FormData($("filters"))),
    liked: [...state.liked.values()].map(slim), disliked: [...state.disliked.values()].map(slim),
  };
}

function remember(how) {
  const now = asked();
  if (how === "push" && JSON.stringify(now) !== JSON.stringify(history.state)) history.pushState(now, "");
  else if (how) history.replaceState(now, "");
}

function restore(then) {
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
    if (isTimeline && (!last || spanOf(last) !== spanOf(photo))) {
      if (last) $("grid").append(make("div", { class: "fill" }));
      $("grid").append(make("h2", {}, spanTitle(spanOf(photo))));
    }
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
  const image = make("img", { loading: "lazy", decoding: "async", alt: nameOf(photo) });
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
  open.addEventListener("click", () => look(at));
  const name = make("span", {}, nameOf(photo));
  const text = make("figcaption", {}, name);
  if (photo.score != null) name.prepend(make("small", {}, photo.score.toFixed(3)), " ");
  for (const verb of ["like", "dislike"]) {
    const button = make("button", { type: "button", class: verb, "aria-pressed": isMarked(photo, verb), "aria-label": `${verb} ${nameOf(photo)}` }, icon("thumb"));
    button.addEventListener("click", () => mark(photo, verb));
    text.append(button);
  }
  figure.append(open, text);
  if (photo.members) figure.append(make("span", { class: "badge" }, `+${photo.members.length}`));
  return figure;
}

// The part of one side that the grid shows, with `middle` as near to its middle as can be: its start and length.
function visible(middle, times) {
  const length = Math.min(1, 1 / times);
  return [Math.min(1 - length, Math.max(0, middle - length / 2)), length];
}

// A frame around the part of a panorama that was found. `seen` is the part of the picture that is shown.
function frame(region, seen) {
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

function icon(name) {
  const svg = document.createElementNS(SVG, "svg"), use = document.createElementNS(SVG, "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#${name}`);
  svg.append(use);
  return svg;
}

const isMarked = (photo, verb) => String(state[`${verb}d`].has(photo.id));

// Likes and dislikes change the ranking: search again.
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
    for (const photo of map.values()) {
      const each = chip(thumbnail(photo, SMALL), `${word}: ${nameOf(photo)}`, () => map.delete(photo.id));
      each.classList.add(word === "liked" ? "liked" : "disliked");
      chips.push(each);
    }
  }
  if (state.day) chips.push(chip(null, state.day, () => { state.day = ""; showDay(); }));
  for (const { words, filters } of state.phrases) {
    const each = chip(null, `${filters.name ? "named" : "taken"}: ${words}`, () => dropPhrase(words));
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
function dropPhrase(words) {
  const escaped = words.split(" ").map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const inside = new RegExp(escaped.join("((?:\\s+-\\S+)*)\\s+"), "u");
  $("words").value = $("words").value.replace(inside, (...found) => found.slice(1, escaped.length).join("")).replace(/\s+/g, " ").trim();
  state.phrases = state.phrases.filter((phrase) => phrase.words !== words);
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
  state.pictures = [{ photo: photo.id, label: nameOf(photo), src: thumbnail(photo, SMALL) }];
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
  $("look").querySelector(".prev").hidden = !state.photos[state.at - 1];
  $("look").querySelector(".next").hidden = !state.photos[state.at + 1];
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

function describe(photo) {
  $("name").textContent = nameOf(photo);
  const names = new Set([photo.place_district, photo.place, photo.place_region, photo.country]);
  const degrees = photo.latitude == null ? "" : `${photo.latitude.toFixed(5)}, ${photo.longitude.toFixed(5)}`;
  const place = [...names, degrees].filter(Boolean).join(", ");
  const facts = {
    Score: photo.score == null ? "" : `${photo.score.toFixed(4)} (${photo.method})`,
    Taken: (photo.taken_at || "").replace("T", " "), Size: photo.width ? `${photo.width} × ${photo.height} ${photo.format || ""}` : "",
    Camera: photo.camera, Lens: photo.lens, Place: place, Stars: photo.rating,
    Keywords: (photo.keywords || []).join(", "), Path: photo.path,
  };
  const lines = Object.entries(facts).filter(([, value]) => value !== null && value !== undefined && value !== "");
  $("facts").replaceChildren(...lines.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
  for (const verb of ["like", "dislike"]) $("look").querySelector(`[data-act="${verb}"]`).setAttribute("aria-pressed", isMarked(photo, verb));
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
  copy: (photo) => {
    const tell = (text) => { $("told").textContent = text; };
    const refused = () => tell("the browser does not allow copying");
    if (navigator.clipboard) navigator.clipboard.writeText(photo.path).then(() => tell("path copied"), refused);
    else refused(); // on a page from another machine, without encryption
  },
};
$("look").addEventListener("click", (event) => {
  const act = event.target.closest("[data-act]");
  if (act) acts[act.dataset.act](state.photo);
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

const bars = () => [...$("days").querySelectorAll("button")];

// One of them is reached by Tab, the others from there by the arrows.
function showDay() {
  const all = bars();
  for (const button of all) button.setAttribute("aria-pressed", String(button.dataset.day === state.day));
  reach(all.find((button) => button.dataset.day === state.day) || all[0]);
}

function reach(wanted) {
  for (const button of bars()) button.tabIndex = button === wanted ? 0 : -1;
}

$("days").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const all = bars();
  const next = all[all.indexOf(event.target) + step];
  if (!step || !next) return;
  event.preventDefault();
  event.stopPropagation();
  reach(next);
  next.focus();
});

async function showAbout() {
  const about = await call("/api/about").catch(() => null);
  if (!about) return;
  state.edition = about.edition;
  const chosen = $("filters").elements.root.value;
  $("cameras").replaceChildren(...about.cameras.map(({ camera }) => make("option", { value: camera })));
  $("filters").elements.root.replaceChildren(make("option", { value: "" }, "any"), ...about.roots.map(({ path }) => make("option", { value: path }, path)));
  $("filters").elements.root.value = chosen;
}

// ---- what changes meanwhile

async function lookAgain() {
  if (document.hidden) return;
  const about = await call("/api/about").catch(() => null);
  if (!about) { state.edition = null; return; }
  if (state.failed && state.edition === null) { refresh(); return; } // it was gone, and is there again
  $("fresh").hidden = about.edition === state.edition;
}

function refresh() {
  $("fresh").hidden = true;
  return showAbout().then(showDays).then(() => load(true, "replace"));
}

$("fresh").addEventListener("click", () => { refresh(); $("photos").focus(); });
$("again").addEventListener("click", refresh);
$("clear").addEventListener("click", () => { state.phrases.forEach(({ words }) => dropPhrase(words)); state.day = ""; $("filters").reset(); showDay(); showAsked(); });
document.addEventListener("visibilitychange", lookAgain);
setInterval(lookAgain, LOOK_MS);

// ---- hands

let later = 0;
const soon = () => { clearTimeout(later); later = setTimeout(() => load(true, "replace"), 250); };
const sayWeight = () => $("weight").setAttribute("aria-valuetext", `words ${$("weight").value} percent`);

$("ask").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(later); showAsked(); load(true); });
$("words").addEventListener("input", () => { state.phrases = []; showAsked(); if (!$("words").value) soon(); });
$("weight").addEventListener("input", () => { sayWeight(); soon(); });
addEventListener("popstate", (event) => {
  if (!event.state) return;
  close();
  restore(event.state);
  load(true, "");
});
$("filters").addEventListener("input", soon);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("reset", soon);
function showFilters(isShown) {
  $("filters").hidden = !isShown;
  $("show-filters").setAttribute("aria-expanded", String(isShown));
}
$("show-filters").addEventListener("click", () => showFilters($("filters").hidden));
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

// The card below or above: in the next row, the one whose middle is nearest.
function beside(at, step) {
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

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.closest("input, select, textarea");
  const isLooking = $("look").open;
  if (isTyping && !isLooking) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const at = isLooking ? state.at : Number(document.activeElement?.dataset?.at ?? -1);
  const photo = isLooking ? state.photo : state.photos[at];
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
function watchEnd() { // observe again after each page: an end that stays visible fires no event
  end.unobserve($("end"));
  if (state.more) end.observe($("end"));
}

// What was asked before the page was loaded again: once the folders are known that can be chosen.
function askAgain() {
  if (history.state) {
    const kept = history.state.pictures.map(({ src, ...rest }) => (src?.startsWith("blob:") ? rest : { src, ...rest })); // such an address ends with its page
    restore({ ...history.state, pictures: kept });
  }
  showAsked();
}

Promise.all([showAbout().then(askAgain), showDays()]).finally(() => load(true, "replace"));
