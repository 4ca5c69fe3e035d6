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
