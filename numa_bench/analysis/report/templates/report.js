"use strict";
(() => {
  const order = new Intl.Collator("en", { numeric: true });
  const key = (row, column, numeric) => {
    const cell = row.cells[column];
    if (!numeric) { const text = cell.textContent.trim(); return text === "–" ? "" : text; }
    return cell.dataset.v === "" ? null : Number(cell.dataset.v);
  };
  const compare = (a, b, numeric, sign) => {
    const absent = (a === null || a === "") - (b === null || b === "");
    if (absent || a === null || a === "") return absent;  // not measured comes last, either way
    return sign * (numeric ? a - b : order.compare(a, b));
  };
  const sort = (table, heading) => {
    const column = heading.cellIndex;
    const numeric = heading.classList.contains("n");
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => [key(row, column, numeric), row]);
    rows.sort((a, b) => compare(a[0], b[0], numeric, down ? -1 : 1));
    body.append(...rows.map((pair) => pair[1]));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const heading of table.tHead.rows[0].cells) {
      heading.querySelector("button").addEventListener("click", () => sort(table, heading));
    }
  }

  const runs = document.getElementById("runs-table");
  if (!runs) return;
  const text = document.getElementById("runs-text");
  const status = document.getElementById("runs-status");
  const count = document.getElementById("runs-count");
  const headings = Array.from(runs.tHead.rows[0].cells, (cell) => cell.textContent.trim());
  const column = headings.indexOf("status");
  const rows = Array.from(runs.tBodies[0].rows, (row) => ({
    row, text: Array.from(row.cells, (cell) => cell.textContent).join(" | ").toLowerCase(),
    status: row.cells[column].textContent.trim(),
  }));
  const filter = () => {
    const words = text.value.toLowerCase().split(",").map((word) => word.trim()).filter(Boolean);
    let shown = 0;
    for (const item of rows) {
      const keep = (!status.value || item.status === status.value) && words.every((w) => item.text.includes(w));
      item.row.hidden = !keep;
      shown += keep;
    }
    count.textContent = `${shown} of ${rows.length} runs`;
  };
  text.addEventListener("input", filter);
  status.addEventListener("change", filter);
  filter();
})();
