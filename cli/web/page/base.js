// What all parts of the page share: its state, the API, and elements.

export const SMALL = 160, MIDDLE = [320, 640], LARGE = 1920;
export const SVG = "http://www.w3.org/2000/svg";
export const $ = (id) => document.getElementById(id);
export const make = (tag, attributes = {}, ...inside) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
};

// The current query. Pictures: {photo} or {upload}, each with a label and a URL.
export const state = {
  pictures: [], liked: new Map(), disliked: new Map(), day: "", place: "", view: "", address: null, // asked
  picked: new Map(), // selected, by id
  photos: [], passed: 0, more: true, asking: 0, busy: false, failed: false, edition: null, progress: null, phrases: [], // answered
  at: -1, photo: null, isStale: false, // looked at
};

export async function call(path, request = {}) {
  const response = await fetch(path, { credentials: "same-origin", ...request });
  const body = await response.json().catch(() => ({ error: `answer ${response.status}` }));
  if (!response.ok) throw new Error(body.hint ? `${body.error} (${body.hint})` : body.error);
  return body;
}

export const post = (path, asked) => call(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(asked) });

// Fails on a page from another machine, without encryption.
export async function copy(text) {
  if (!navigator.clipboard) throw new Error("the browser does not allow copying");
  await navigator.clipboard.writeText(text).catch(() => { throw new Error("the browser does not allow copying"); });
}

export function say(text, isBad = false) {
  $("said").textContent = text;
  $("said").classList.toggle("bad", isBad);
}

export const counted = (count) => `${count} ${count === 1 ? "photo" : "photos"}`;
export const nameOf = (photo) => photo.path.slice(photo.path.lastIndexOf("/") + 1);
// A time in a video: 1:05, 1:02:05.
export function clock(seconds) {
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

// Of a video: "0:04 of 1:30". Of a photo: empty.
export const momentOf = (photo) => [photo.at, photo.duration_seconds].filter((each) => each != null).map(clock).join(" of ");
export const thumbnail = (photo, side) => `${photo.thumbnail}&side=${side}`;

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg"), use = document.createElementNS(SVG, "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#${name}`);
  svg.append(use);
  return svg;
}
