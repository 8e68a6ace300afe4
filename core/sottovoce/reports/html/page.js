"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const value = (row) => {
        const cell = row.cells[column];
        if (!("v" in cell.dataset)) return cell.textContent.trim();
        return cell.dataset.v === "" ? Infinity : Number(cell.dataset.v);
      };
      const rows = [...body.rows].sort((a, b) => {
        const x = value(a), y = value(b);
        const order = typeof x === "number" ? x - y || 0 : x.localeCompare(y);
        return down ? -order : order;
      });
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...rows);
    });
  });
}
const form = document.getElementById("filter");
if (form) {
  const articles = [...document.querySelectorAll("article")];
  const filter = () => {
    const { model, kind, text } = form.elements;
    const wanted = text.value.trim().toLowerCase();
    let shown = 0;
    for (const article of articles) {
      const sides = kind.value ? [kind.value] : ["worse", "better", "other"];
      const names = sides.flatMap((side) => JSON.parse(article.dataset[side] || "[]"));
      const fits = (kind.value === "" && model.value === "") || (model.value ? names.includes(model.value) : names.length > 0);
      article.hidden = !(fits && article.textContent.toLowerCase().includes(wanted));
      shown += article.hidden ? 0 : 1;
    }
    form.querySelector("output").textContent = `${shown} of ${articles.length}`;
  };
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}
