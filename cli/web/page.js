// The gallery: queries the API and shows photos. Texts of photos are inserted as text, never as markup.

import { restore, sayWeight, showFilters } from "./page/address.js";
import { $, state } from "./page/base.js";
import { mark, focusCard, beside } from "./page/cards.js";
import { showAbout } from "./page/changes.js";
import { showAsked, bring, moreLike } from "./page/chips.js";
import { showDays, showDay } from "./page/days.js";
import { close, acts } from "./page/look.js";
import { load } from "./page/query.js";
import { clearPicked, pick } from "./page/selection.js";

let later = 0;
const soon = () => { clearTimeout(later); later = setTimeout(() => load(true, "replace"), 250); };

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
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

// What was asked before the page was loaded again: once the folders are known that can be chosen.
function askAgain() {
  if (history.state) {
    const kept = history.state.pictures.map(({ src, ...rest }) => (src?.startsWith("blob:") ? rest : { src, ...rest })); // such an address ends with its page
    restore({ ...history.state, pictures: kept });
  }
  showAsked();
}

Promise.all([showAbout().then(askAgain), showDays()]).finally(() => load(true, "replace"));
