"use strict";
// Without this the page is a list of photos with links; it adds the large view, the keys and the copying.
(() => {
  const photos = [...document.querySelectorAll("a.photo")];
  const dialog = document.querySelector("dialog");
  const large = dialog.querySelector("img");
  const name = dialog.querySelector("bdi");
  const note = dialog.querySelector("small");
  const original = dialog.querySelector("a");
  const said = document.getElementById("said");
  let shown = -1;

  for (const each of document.querySelectorAll("[hidden][data-scripted]")) each.hidden = false;

  function show(place) {
    if (!photos.length) return;
    shown = (place + photos.length) % photos.length;
    const photo = photos[shown];
    const small = photo.querySelector("img");
    large.onerror = () => {
      large.onerror = null;
      large.src = small.src;
      note.textContent = "the original is not where it was, or this browser cannot show it";
    };
    large.src = photo.dataset.large || (photo.dataset.shows ? photo.href : small.src);
    large.alt = small.alt;
    name.textContent = photo.dataset.name;
    note.textContent = [`${shown + 1} of ${photos.length}`, photo.dataset.about].filter(Boolean).join("  ·  ");
    original.href = photo.href;
    if (!dialog.open) dialog.showModal();
  }

  function copy(path, button) {
    const done = () => {
      said.textContent = `copied ${path}`;
      const before = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = before; }, 1200);
    };
    const byHand = () => {
      const area = document.createElement("textarea");
      area.value = path;
      (dialog.open ? dialog : document.body).append(area);
      area.select();
      const isCopied = document.execCommand("copy");
      area.remove();
      button.focus();
      if (isCopied) done();
    };
    if (navigator.clipboard) navigator.clipboard.writeText(path).then(done, byHand);
    else byHand();
  }

  // How many photos stand in the first row: up and down move by as many.
  function columns() {
    const top = photos.length ? photos[0].getBoundingClientRect().top : 0;
    const next = photos.findIndex((photo) => photo.getBoundingClientRect().top > top + 1);
    return next < 1 ? photos.length || 1 : next;
  }

  function move(from, to) {
    const target = photos[Math.max(0, Math.min(photos.length - 1, to))];
    if (!target || target === photos[from]) return;
    target.focus();
    target.scrollIntoView({ block: "nearest" });
  }

  const copyOf = (place) => photos[place].closest("li").querySelector("button.copy");
  const close = () => dialog.close();

  photos.forEach((photo, place) => photo.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    show(place);
  }));
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", () => copy(button.dataset.path, button));
  }
  dialog.querySelector(".previous").addEventListener("click", () => show(shown - 1));
  dialog.querySelector(".next").addEventListener("click", () => show(shown + 1));
  dialog.querySelector(".close").addEventListener("click", close);
  dialog.querySelector(".copied").addEventListener("click", (event) => {
    copy(copyOf(shown).dataset.path, event.currentTarget);
  });
  large.addEventListener("click", close);
  dialog.addEventListener("close", () => {
    large.removeAttribute("src");
    if (shown >= 0) photos[shown].focus();
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key;
    if (dialog.open) {
      if (key === "ArrowRight" || key === "j") show(shown + 1);
      else if (key === "ArrowLeft" || key === "k") show(shown - 1);
      else if (key === "Home") show(0);
      else if (key === "End") show(photos.length - 1);
      else if (key === "c") copy(copyOf(shown).dataset.path, dialog.querySelector(".copied"));
      else return;
      event.preventDefault();
      return;
    }
    const place = photos.indexOf(document.activeElement);
    const scrolls = ["ArrowDown", "ArrowUp", "Home", "End"].includes(key);
    if (place < 0 && scrolls) return;
    if (key === "ArrowRight" || key === "j") move(place, place + 1);
    else if (key === "ArrowLeft" || key === "k") move(place, place - 1);
    else if (key === "ArrowDown") move(place, place + columns());
    else if (key === "ArrowUp") move(place, place - columns());
    else if (key === "Home") move(place, 0);
    else if (key === "End") move(place, photos.length - 1);
    else if (key === "c" && place >= 0) copy(copyOf(place).dataset.path, copyOf(place));
    else return;
    event.preventDefault();
  });
})();
