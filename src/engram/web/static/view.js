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
