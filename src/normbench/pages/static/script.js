// Sorting, filters and copying. A page has all its content without this file.
"use strict";
document.documentElement.classList.add("scripted");

// Sorting: the units are the bodies of a table if there are several, else its rows.
const number = /^[-+−]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?/i;

function key(unit, column) {
  const row = unit.tagName === "TBODY" ? unit.rows[0] : unit;
  const cell = row && row.cells[column];
  if (!cell) return null;
  const text = cell.dataset.value ?? cell.textContent.trim();
  return number.test(text) && cell.tagName === "TD" ? parseFloat(text.replace("−", "-")) : text;
}

function compare(a, b) {
  const numbers = (typeof a === "number") - (typeof b === "number");
  if (numbers) return -numbers; // numbers come before words such as "n/a"
  return typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

function sort(table, header) {
  const column = header.cellIndex;
  const down = header.getAttribute("aria-sort") === "ascending";
  const several = table.tBodies.length > 1;
  const units = several ? [...table.tBodies] : [...(table.tBodies[0]?.rows ?? [])];
  const sorted = units.map((unit, place) => [key(unit, column), place, unit]);
  sorted.sort((a, b) => (down ? compare(b[0], a[0]) : compare(a[0], b[0])) || a[1] - b[1]);
  const parent = several ? table : table.tBodies[0];
  parent.append(...sorted.map((each) => each[2]));
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.addEventListener("click", (event) => {
    const header = event.target.closest("button") && event.target.closest("th");
    if (header) sort(table, header);
  });
}

// Filters: of the runs by their texts, of the table of results by the values of its keys.
const form = document.querySelector("form.filters");
const runs = document.querySelector("table.runs");
const shown = document.querySelector(".shown");
const rows = runs ? [...runs.tBodies[0].rows] : [];
const cellOf = new Map(); // row → anchor of its cell, before anything is sorted
let last = "";
for (const row of rows) {
  if (row.id) last = row.id;
  cellOf.set(row, last);
}
let cell = "";

function differs(element, wanted) {
  const keys = JSON.parse(element.dataset.keys || "{}");
  return Object.entries(wanted).some(([name, value]) => name in keys && keys[name] !== value);
}

function apply() {
  const chosen = form ? [...form.querySelectorAll("select")].filter((select) => select.value) : [];
  const wanted = Object.fromEntries(chosen.map((select) => [select.dataset.key, select.value]));
  const columns = chosen.map((select) => [Number(select.dataset.column) + 1, select.value]);
  let count = 0;
  for (const row of rows) {
    row.hidden = (cell && cellOf.get(row) !== cell)
      || columns.some(([column, value]) => row.cells[column].textContent !== value);
    count += !row.hidden;
  }
  if (shown) {
    const total = shown.dataset.all;
    shown.textContent = count === rows.length ? `${total} runs` : `${count} of ${total} runs`;
  }
  const results = document.querySelector("table.numbers");
  if (!results) return;
  for (const body of results.tBodies) body.hidden = differs(body, wanted);
  for (const header of results.tHead.rows[0].cells) {
    const hidden = differs(header, wanted);
    header.hidden = hidden;
    for (const body of results.tBodies) for (const row of body.rows) row.cells[header.cellIndex].hidden = hidden;
  }
}

function choose() {
  const name = decodeURIComponent(location.hash.slice(1));
  if (!/^cell-\d+$/.test(name)) return;
  const row = document.getElementById(name);
  if (!row) return;
  for (const select of form ? form.querySelectorAll("select") : []) select.value = "";
  cell = name;
  apply();
  row.querySelector("a").focus({ preventScroll: true });
  document.getElementById("runs").scrollIntoView();
}

if (form) {
  form.addEventListener("change", () => { cell = ""; apply(); });
  form.addEventListener("reset", () => setTimeout(() => {
    if (location.hash) history.replaceState(null, "", location.pathname + location.search);
    cell = "";
    apply();
  }));
  // a second click on the same number
  document.querySelector("table.numbers")?.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link && link.hash === location.hash) setTimeout(choose);
  });
}
window.addEventListener("hashchange", choose);
window.addEventListener("load", () => setTimeout(choose)); // later than the browser's own jump

// Copying a command.
for (const command of document.querySelectorAll("pre.command")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command);
      button.textContent = "Selected: press Ctrl+C";
    }
  });
  command.after(button);
}
