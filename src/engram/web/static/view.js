// Remembers light or dark without loading the page again; without it the buttons' form does so.
"use strict";
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches(".themes")) return;
  event.preventDefault();
  const wanted = event.submitter.value;
  document.cookie = `engram_theme=${wanted}; path=/; max-age=31536000; samesite=strict`;
  document.documentElement.dataset.theme = wanted;
  for (const button of form.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.value === wanted));
  }
});
// How many are marked for the comparison.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form.choosing");
  if (!form) return;
  const count = form.querySelectorAll("input[name=run]:checked").length;
  form.querySelector(".chosen").textContent = count ? `${count} marked` : "";
});
// A wide lineage is shown from the target that the page is about, not from its first ancestor.
document.addEventListener("DOMContentLoaded", () => {
  for (const chosen of document.querySelectorAll(".tree .chosen")) {
    const region = chosen.closest(".tree");
    const [box, view] = [chosen.getBoundingClientRect(), region.getBoundingClientRect()];
    region.scrollLeft += box.left + box.width / 2 - view.left - view.width / 2;
  }
});
// What a page could not renew must not look as if it were new.
const lost = (text) => {
  const place = document.getElementById("lost");
  place.textContent = text;
  place.hidden = !text;
};
document.addEventListener("htmx:sendError", () =>
  lost("engram view does not answer, so what stands here is old. Was it ended? Start it again, then load this page again."));
document.addEventListener("htmx:responseError", () =>
  lost("This could not be answered, so what stands here is old. Load this page again: it says why."));
document.addEventListener("htmx:afterSwap", () => lost(""));
