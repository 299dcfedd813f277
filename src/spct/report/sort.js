"use strict";
// Click a column's head to sort its table, again to turn it round. What is printed is open.
(() => {
  const NUMBER = /^[±+-]?\s*(\d[\d,]*)(\.\d+)?(e[+-]?\d+)?/i;

  const value = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return null;
    const text = (cell.dataset.value ?? cell.textContent).trim().replace("−", "-");
    if (!text || text === "–") return null;
    const found = column && !cell.classList.contains("text") && text.match(NUMBER);
    return { text, number: found ? Number(found[0].replace(/[,±\s]/g, "")) : NaN };
  };

  const compare = (a, b) =>
    Number.isNaN(a.number) || Number.isNaN(b.number)
      ? a.text.localeCompare(b.text, "en", { numeric: true })
      : a.number - b.number;

  const sort = (table, head) => {
    const turned = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
    // Words are first looked for from the front, numbers from the biggest.
    const rows = [...table.tBodies[0].rows];
    const keyed = rows.map((row) => [value(row, head.cellIndex), row]);
    const words = keyed.some(([key]) => key && Number.isNaN(key.number));
    const fresh = head.getAttribute("aria-sort") === "none";
    const sign = fresh ? (words ? 1 : -1) : turned;
    keyed.sort(([a], [b]) => (a && b ? sign * compare(a, b) : Number(!a) - Number(!b)));
    for (const other of head.parentNode.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table")) {
    if (!table.tHead || !table.tBodies[0] || table.tBodies[0].rows.length < 2) continue;
    for (const head of table.tHead.rows[table.tHead.rows.length - 1].cells) {
      head.tabIndex = 0;
      head.setAttribute("aria-sort", "none");
      head.addEventListener("click", () => sort(table, head));
      head.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sort(table, head);
      });
    }
  }

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open], .quiet)")];
    for (const each of closed) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
  });
})();
