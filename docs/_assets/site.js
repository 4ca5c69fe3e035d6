/* Filters above the tables of methods and of claims; without them every row is shown. */
"use strict";

const VERDICTS = ["holds", "fails", "undecided", "not run"];

function made(tag, settings, ...children) {
  const node = Object.assign(document.createElement(tag), settings);
  node.append(...children);
  return node;
}

/* Each table with what stands around it, from a heading to the next: hidden where no row is left. */
function sections(article, what) {
  const found = [];
  for (const node of article.children) {
    if (node.tagName === "H2" || !found.length) found.push({ nodes: [], rows: [], head: "" });
    const last = found.at(-1);
    last.nodes.push(node);
    if (node.tagName === "H2") last.head = node.textContent.toLowerCase();
    if (node.matches(`table.${what}`)) last.rows.push(...node.tBodies[0].rows);
  }
  return found.filter((section) => section.rows.length);
}

function filter(box, what) {
  const parts = sections(box.closest("article"), what);
  const words = made("input", { type: "search", id: "filter-words" });
  const said = made("output", { htmlFor: "filter-words" });
  let verdict = "";

  function apply() {
    const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const { nodes, rows, head } of parts) {
      for (const row of rows) {
        const text = `${head} ${row.textContent.toLowerCase()}`;
        const fits = !verdict || row.dataset.verdict === verdict;
        row.hidden = !(fits && asked.every((word) => text.includes(word)));
      }
      const shown = rows.filter((row) => !row.hidden).length;
      left += shown;
      if (head) for (const node of nodes) node.hidden = !shown;
    }
    const all = parts.reduce((sum, part) => sum + part.rows.length, 0);
    said.textContent = verdict || asked.length ? `${left} of ${all} rows` : "";
  }

  box.append(made("label", { htmlFor: "filter-words" }, `Show only ${what} with `), words);
  if (what === "claims") {
    const buttons = ["", ...VERDICTS].map((name) => {
      const button = made("button", { type: "button" }, name || "all");
      button.setAttribute("aria-pressed", String(!name));
      button.addEventListener("click", () => {
        verdict = name;
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        apply();
      });
      return button;
    });
    box.append(...buttons);
  }
  box.append(said);
  words.addEventListener("input", apply);
}

for (const box of document.querySelectorAll("[data-filter]")) filter(box, box.dataset.filter);

/* Said to who does not see the page, or does not use a mouse. */
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
new MutationObserver(() => {
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap")) wide.tabIndex = 0;
}).observe(document.querySelector("article"), { childList: true });
