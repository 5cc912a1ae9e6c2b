// The gallery: queries the API and shows photos. Texts of photos are inserted as text, never as markup.

import { isElsewhere, restore, sayWeight, showFilters } from "./page/address.js";
import { $, state } from "./page/base.js";
import { mark, focusCard, beside } from "./page/cards.js";
import { showAbout } from "./page/changes.js";
import { showAsked, bring, moreLike } from "./page/chips.js";
import { showDays } from "./page/days.js";
import { close, acts, lookAtAddress } from "./page/look.js";
import { showView } from "./page/places.js";
import { load } from "./page/query.js";
import { clearPicked, pick } from "./page/selection.js";

let later = 0;
const soon = () => { clearTimeout(later); later = setTimeout(() => load(true, "replace"), 250); };

$("ask").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(later); showAsked(); load(true); });
$("words").addEventListener("input", () => { state.phrases = []; showAsked(); if (!$("words").value) soon(); });
$("weight").addEventListener("input", () => { sayWeight(); soon(); });
addEventListener("popstate", async () => {
  if (isElsewhere()) { close(); await restore(); await load(true, ""); }
  lookAtAddress();
});
$("filters").addEventListener("input", soon);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("reset", soon);
$("show-filters").addEventListener("click", () => showFilters($("filters").hidden));
$("pick").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { bring($("file").files[0]); $("file").value = ""; });
$("home").addEventListener("click", (event) => {
  event.preventDefault();
  $("words").value = ""; state.pictures = []; state.day = state.place = state.view = ""; state.liked.clear(); state.disliked.clear();
  $("filters").reset(); clearTimeout(later); showView(); showAsked(); load(true);
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

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.closest("input:not(.pick), select, textarea");
  const isLooking = $("look").open;
  if (isTyping && !isLooking) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const at = isLooking ? state.at : Number(document.activeElement.closest(".card")?.querySelector(".open").dataset.at ?? -1);
  const photo = isLooking ? state.photo : state.photos[at];
  const keys = isLooking
    ? { ArrowLeft: acts.prev, ArrowRight: acts.next, m: () => acts.more(photo), l: () => acts.like(photo), d: () => acts.dislike(photo), c: () => acts.copy(photo), x: () => acts.pick(photo) }
    : { "/": () => $("words").focus(), f: () => $("show-filters").click() };
  if (!isLooking && state.picked.size) Object.assign(keys, { s: () => $("download").focus(), Escape: clearPicked });
  if (!isLooking && photo) Object.assign(keys, {
    ArrowLeft: () => focusCard(at - 1), ArrowRight: () => focusCard(at + 1),
    ArrowUp: () => focusCard(beside(at, -1)), ArrowDown: () => focusCard(beside(at, 1)),
    m: () => moreLike(photo), l: () => mark(photo, "like"), d: () => mark(photo, "dislike"), x: () => pick(at),
  });
  else if (!isLooking && event.target === document.body) keys.ArrowDown = () => focusCard(0);
  const isActing = event.target.closest("button, a, summary"); // which the space bar presses
  if (isLooking && !isActing) keys[" "] = acts.play;
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

// Once the folders are known that can be chosen.
Promise.all([showAbout().then(restore), showDays()]).finally(() => load(true, "").then(lookAtAddress));
