(() => {
  "use strict";
  // Everything works without this: arrow keys where there are many values, what is pointed at said below, tables that
  // are sorted, searched and saved, and parts that a narrow screen opens one by one.
  const says = document.getElementById("says");
  document.documentElement.classList.add("js");
  const words = (node) => {
    if (!node || !node.closest) return "";
    const strip = node.closest(".strips path");
    if (strip) return strip.textContent;
    const cell = node.closest(".heat tbody td, abbr");
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
    if ((!step && end === undefined) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!event.target.closest(".strips path, .heat tbody td")) return;
    const cell = event.target.closest("td");
    const next = cell ? cellBeside(cell, step, end) : stripBeside(event.target, step, end);
    event.preventDefault();
    if (next) reach(next, event.target);
  });
  const reach = (next, from) => {
    if (from) from.tabIndex = -1;
    if (!next.closest("td")) next.setAttribute("role", "img");
    next.tabIndex = 0;
    next.focus({ preventScroll: !from });
  };
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

  const make = (name, given, ...inside) => {
    const node = Object.assign(document.createElement(name), given);
    node.append(...inside);
    return node;
  };
  const said = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
  const UNITS = { K: 1e3, M: 1e6, G: 1e9, B: 1e9, T: 1e12 };
  const numberIn = (text) => {
    const found = /^[<>≤≥]?\s*(-?)(∞|\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)\s?([KMGBT])?/i.exec(text);
    if (!found) return NaN;
    const size = found[2] === "∞" ? Infinity : Number(found[2].replace(/,/g, "")) * (UNITS[found[3]] || 1);
    return found[1] ? -size : size;
  };
  const headsOf = (table) => [...table.tHead.rows[0].cells];
  // An interval or a band is that of the column before it.
  const namesOf = (table) => {
    let last = "";
    return headsOf(table).map((head) => (/^(interval|band)$/.test(said(head)) ? `${last} ${said(head)}` : (last = said(head))));
  };
  const nameOf = (table) => (table.caption ? said(table.caption) : table.getAttribute("aria-label"));

  const sortBy = (table, column, down) => {
    const rows = [...table.tBodies[0].rows];
    const texts = new Map(rows.map((row) => [row, said(row.cells[column])]));
    const known = [...texts.values()].filter((text) => text && text !== "–");
    const numeric = known.filter((text) => !Number.isNaN(numberIn(text))).length * 2 > known.length;
    const order = (a, b) => {
      const [x, y] = [texts.get(a), texts.get(b)];
      if (!numeric) return (down ? -1 : 1) * x.localeCompare(y, undefined, { numeric: true });
      const [m, n] = [numberIn(x), numberIn(y)];
      if (Number.isNaN(m) || Number.isNaN(n)) return Number.isNaN(m) - Number.isNaN(n);
      return m === n ? 0 : (down ? -1 : 1) * (m < n ? -1 : 1);
    };
    table.tBodies[0].append(...rows.sort(order));
    headsOf(table).forEach((head, place) => {
      if (place === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  };
  const sortable = (table) => {
    headsOf(table).forEach((head, column) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      button.addEventListener("click", () => sortBy(table, column, head.getAttribute("aria-sort") === "ascending"));
      head.append(button);
    });
  };

  const quoted = (text) => {
    const safe = /^[=+@-]/.test(text) && Number.isNaN(numberIn(text)) ? `'${text}` : text;
    return /[",]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  const save = (table) => {
    const lines = [namesOf(table), ...[...table.tBodies[0].rows].map((row) => [...row.cells].map(said))];
    const content = new Blob(lines.map((line) => `${line.map(quoted).join(",")}\n`), { type: "text/csv;charset=utf-8" });
    const name = nameOf(table).replace(/[^\w-]+/g, "-").slice(0, 60);
    const link = make("a", { href: URL.createObjectURL(content), download: `${name}.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const choices = (rows, column) => {
    const texts = new Set(rows.map((row) => said(row.cells[column])));
    return texts.size > 1 && texts.size < 8 && [...texts].every((text) => text.length < 40) ? [...texts].sort() : [];
  };
  const pick = (label, first, options, values) => {
    const made = options.map((text, place) => make("option", { value: values ? values[place] : text }, text));
    const node = make("select", {}, make("option", { value: "" }, first), ...made);
    node.setAttribute("aria-label", label);
    return node;
  };
  const toolsOf = (table) => {
    const rows = [...table.tBodies[0].rows], heads = namesOf(table), name = nameOf(table);
    const find = make("input", { type: "search", placeholder: "search", size: 14 });
    find.setAttribute("aria-label", `search in: ${name}`);
    const count = make("span", {});
    count.setAttribute("role", "status");
    const picks = [];
    headsOf(table).forEach((head, column) => {
      const options = head.classList.contains("w") ? choices(rows, column) : [];
      if (options.length) picks.push([column, pick(`only this ${heads[column]}`, `${heads[column]}: all`, options)]);
    });
    const filter = () => {
      const wanted = find.value.toLowerCase();
      let shown = 0;
      for (const row of rows) {
        const fits = picks.every(([column, one]) => !one.value || said(row.cells[column]) === one.value);
        row.hidden = !(fits && said(row).toLowerCase().includes(wanted));
        shown += !row.hidden;
      }
      count.textContent = matches(shown, rows.length, "row");
    };
    find.addEventListener("input", filter);
    picks.forEach(([, one]) => one.addEventListener("change", filter));
    const ways = heads.flatMap((head) => [`${head} ↑`, `${head} ↓`]);
    const order = pick(`sort: ${name}`, "sort", ways, ways.map((_, place) => place));
    order.className = "order";
    order.addEventListener("change", () => order.value && sortBy(table, order.value >> 1, order.value % 2 === 1));
    const csv = make("button", { type: "button", title: "the table as a file" }, "CSV");
    csv.addEventListener("click", () => save(table));
    return make("div", { className: "tools" }, find, ...picks.map(([, one]) => one), order, csv, count);
  };

  const matches = (shown, all, noun) => (shown === all ? "" : shown ? `${shown} of ${all}` : `no ${noun} matches`);

  const READY = new WeakSet();
  const prepare = (table) => {
    if (READY.has(table) || table.closest("details:not([open])")) return;
    READY.add(table);
    const heads = namesOf(table);
    if (!table.classList.contains("cards")) {
      for (const row of table.tBodies[0].rows) {
        [...row.cells].forEach((cell, place) => place && cell.setAttribute("data-label", heads[place]));
      }
      table.classList.add("cards");
    }
    const count = table.tBodies[0].rows.length;
    if (count > 4) table.closest(".scroll").before(toolsOf(table));
    if (count > 1) sortable(table);
  };
  const searchable = (list) => {
    const articles = [...list.querySelectorAll(".qa")];
    if (articles.length < 5) return;
    const find = make("input", { type: "search", placeholder: "search questions and answers", size: 34 });
    find.setAttribute("aria-label", "search questions and answers");
    const count = make("span", {});
    count.setAttribute("role", "status");
    find.addEventListener("input", () => {
      const wanted = find.value.toLowerCase();
      for (const one of articles) one.hidden = !said(one).toLowerCase().includes(wanted);
      // What is folded is opened, and how many it holds is no answer to a search.
      list.querySelectorAll("details").forEach((one) => (one.open = one.open || Boolean(wanted)));
      list.querySelectorAll("summary").forEach((one) => (one.hidden = Boolean(wanted)));
      count.textContent = matches(articles.filter((one) => !one.hidden).length, articles.length, "answer");
    });
    list.before(make("div", { className: "tools" }, find, count));
  };
  const prepareAll = () => document.querySelectorAll("table.data").forEach(prepare);

  const narrow = window.matchMedia("(max-width:37.49rem)");
  const fold = () => document.querySelectorAll(".wide").forEach((one) => (one.open = !narrow.matches));
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let one = target.closest("details"); one; one = one.parentElement.closest("details")) one.open = true;
    const own = target.querySelector(":scope > .wide");
    if (own) own.open = true;
    const strip = target.closest(".strips");
    target.scrollIntoView({ block: strip ? "center" : "start" });
    if (strip) reach(target, strip.querySelector("[tabindex='0']"));
  };
  document.addEventListener("click", (event) => {
    const strip = event.target.closest(".strips path[id]");
    if (strip) location.hash = strip.id;
    else if (event.target.closest("a[href^='#']")) setTimeout(reveal);
  });
  document.addEventListener("toggle", prepareAll, true);
  window.addEventListener("hashchange", reveal);
  // Paper has nothing to open: parts that a narrow screen folds are printed, and folded again afterwards; of what every
  // screen folds, what the reader has opened.
  const unfolded = [];
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details.wide:not([open])").forEach((one) => {
      one.open = true;
      unfolded.push(one);
    });
  });
  window.addEventListener("afterprint", () => unfolded.splice(0).forEach((one) => (one.open = false)));
  narrow.addEventListener("change", fold);
  fold();
  document.querySelectorAll(".search").forEach(searchable);
  prepareAll();
  reveal();
})();
