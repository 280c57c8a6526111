(() => {
  "use strict";
  // Everything works without this: arrow keys where there are many values, and what is pointed at, said below.
  const says = document.getElementById("says");
  document.documentElement.classList.add("js");
  const words = (node) => {
    if (!node || !node.closest) return "";
    const strip = node.closest(".strips path");
    if (strip) return strip.textContent;
    const cell = node.closest(".heat td");
    return cell ? cell.getAttribute("title") : "";
  };
  const say = (text) => {
    says.textContent = text || "";
    says.hidden = !text;
  };
  document.addEventListener("focusin", (event) => say(words(event.target)));
  document.addEventListener("focusout", () => say(""));
  document.addEventListener("pointerover", (event) => say(words(event.target) || words(document.activeElement)));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return say("");
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const end = { Home: 0, End: 1 }[event.key];
    if ((!step && end === undefined) || event.ctrlKey || event.metaKey || event.altKey || !words(event.target)) return;
    const cell = event.target.closest("td");
    const next = cell ? cellBeside(cell, step, end) : stripBeside(event.target, step, end);
    event.preventDefault();
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  const cellBeside = (cell, step, end) => {
    const row = cell.parentNode;
    if (!step) return row.cells[end ? row.cells.length - 1 : 1];
    const rows = row.parentNode.rows;
    const beside = rows[row.sectionRowIndex + step[0]];
    const found = beside && beside.cells[cell.cellIndex + step[1]];
    return found && found.tagName === "TD" ? found : null;
  };
  const stripBeside = (strip, step, end) => {
    const all = strip.parentNode.children;
    if (!step) return all[end ? all.length - 1 : 0];
    const back = step[0] > 0 || step[1] < 0;
    return back ? strip.previousElementSibling : strip.nextElementSibling;
  };
})();
