// What a reader can do with a report page. The numbers are in the page already: the elements of
// tables as markup, and the whole results of the queries as JSON in #answers.
"use strict";
(() => {
  document.documentElement.classList.add("script");
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const make = (name, text = "", attributes = {}) => {
    const made = document.createElement(name);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const packed = JSON.parse(document.getElementById("answers").textContent);
  const read = packed.map(({ names, n, columns }) => {
    const places = Object.fromEntries(names.map((name, place) => [name, columns[place]]));
    const at = (name, row) => Array.isArray(places[name]) ? places[name][row] : places[name].all;
    return { names, n, at };
  });
  const answerOf = (element) => read[Number(element.closest("[data-answer]").dataset.answer)];
  const say = (value) =>
    value === null ? "none" : value === true ? "yes" : value === false ? "no"
      : Array.isArray(value) ? value.slice(0, 12).map(say).join(", ") + (value.length > 12 ? ` ... (${value.length})` : "")
        : String(value);

  // --- what is told of a cell -----------------------------------------------------------------
  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; };
  const tell = (button) => {
    const { at } = answerOf(button);
    const told = JSON.parse(button.closest(".maps").dataset.told);
    const list = make("dl");
    for (const [column, words] of Object.entries(told)) {
      const value = at(column, Number(button.dataset.row));
      if (value !== null) list.append(make("dt", words), make("dd", say(value)));
    }
    tip.replaceChildren(list);
    tip.hidden = false;
    button.setAttribute("aria-describedby", "tip");
    const box = button.getBoundingClientRect();
    const right = document.documentElement.clientWidth - tip.offsetWidth - 8;
    const left = Math.max(8, Math.min(box.left, right));
    const below = box.bottom + tip.offsetHeight + 12 < innerHeight || box.top < tip.offsetHeight + 12;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${scrollY + (below ? box.bottom + 6 : box.top - tip.offsetHeight - 6)}px`;
  };
  const move = (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    const cell = event.target.closest("td");
    const table = cell.closest("table");
    let [y, x] = [cell.parentNode.rowIndex + step[0], cell.cellIndex + step[1]];
    for (; table.rows[y]?.cells[x]; y += step[0], x += step[1]) {
      const next = table.rows[y].cells[x].querySelector("button");
      if (next) return void next.focus();
    }
  };
  for (const table of all(".heat")) {
    all("button", table).forEach((button, place) => { button.tabIndex = place ? -1 : 0; });
    const told = (event) => event.target.tagName === "BUTTON" && tell(event.target);
    table.addEventListener("mouseover", told);
    table.addEventListener("mouseout", hide);
    table.addEventListener("focusout", hide);
    table.addEventListener("keydown", move);
    table.addEventListener("focusin", (event) => {
      if (event.target.tagName !== "BUTTON") return;
      for (const other of all("button[tabindex='0']", table)) other.tabIndex = -1;
      event.target.tabIndex = 0;
      tell(event.target);
    });
    table.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) choose(answerOf(button).at(button.closest(".maps").dataset.key, Number(button.dataset.row)));
    });
  }
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());

  // --- curves ---------------------------------------------------------------------------------
  const WIDE = 460, HIGH = 250, LEFT = 58, RIGHT = 12, TOP = 12, BOTTOM = 34;
  const finite = (value) => typeof value === "number" && Number.isFinite(value);
  const tidy = (value) => value === 0 ? "0" : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3
    ? value.toExponential(0).replace("e+", "e") : String(Number(value.toPrecision(3)));
  const svg = (name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const ticks = (low, high, most) => {
    const raw = (high - low) / most || 1, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++) found.push(k * step);
    return found;
  };
  const decades = (low, high) => {
    const from = Math.floor(Math.log10(low)), to = Math.ceil(Math.log10(high)), found = [];
    const step = Math.max(1, Math.ceil((to - from) / 5));
    for (let k = from; k <= to; k += step) for (const digit of to - from > 2 ? [1] : [1, 2, 5]) found.push(digit * 10 ** k);
    const inside = found.filter((mark) => mark >= low && mark <= high);
    return inside.length ? inside : [Math.sqrt(low * high)];
  };
  const upright = (values, logarithmic) => {
    const drawn = values.flat().filter((value) => finite(value) && (!logarithmic || value > 0));
    const [floor, ceiling] = [HIGH - BOTTOM, TOP];
    if (!drawn.length) return { y: () => floor, marks: [0] };
    let [low, high] = [Math.min(...drawn), Math.max(...drawn)];
    if (logarithmic) {
      [low, high] = [low / 1.3, high * 1.3];
      const slope = (ceiling - floor) / Math.log(high / low);
      return { y: (v) => v > 0 ? floor + slope * Math.log(v / low) : floor, marks: decades(low, high) };
    }
    const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 0.01;
    [low, high] = [Math.max(0, low - room), high + room];
    return { y: (v) => floor + (v - low) * (ceiling - floor) / (high - low), marks: ticks(low, high, 4) };
  };
  const drawn = (plot, xs, row, at) => {
    const lists = plot.curves.map((curve) => ["y", "low", "high"].map((which) => curve[which] ? at(curve[which], row) : []));
    const { y, marks } = upright(lists.flat(), plot.is_logarithmic);
    const [first, last] = [Math.min(...xs), Math.max(...xs)];
    const x = (v) => first === last ? (LEFT + WIDE - RIGHT) / 2 : LEFT + (v - first) / (last - first) * (WIDE - LEFT - RIGHT);
    const names = plot.curves.map((curve) => curve.name).join(" and ");
    const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `${plot.title}: ${names}, by epoch. The points are in the table below.` });
    for (const mark of marks) {
      picture.append(svg("path", { class: "axis", d: `M${LEFT} ${y(mark)}H${WIDE - RIGHT}` }));
      picture.append(svg("text", { x: LEFT - 7, y: y(mark) + 4, "text-anchor": "end" }, tidy(mark)));
    }
    for (const mark of ticks(first, last, 6).filter(Number.isInteger)) {
      picture.append(svg("text", { x: x(mark), y: HIGH - BOTTOM + 17, "text-anchor": "middle" }, mark));
    }
    picture.append(svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${HIGH - BOTTOM}H${WIDE - RIGHT}` }));
    picture.append(svg("text", { x: (LEFT + WIDE - RIGHT) / 2, y: HIGH - 2, "text-anchor": "middle" }, "epoch"));
    lists.forEach(([line, low, high], k) => {
      const points = (values) => xs.map((each, i) => [each, values[i]]).filter(([, v]) => finite(v)).map(([each, v]) => `${x(each).toFixed(1)} ${y(v).toFixed(1)}`);
      if (low.length && points(low).length > 1) {
        picture.append(svg("path", { class: `band${k}`, d: `M${points(high).join("L")}L${points(low).reverse().join("L")}Z` }));
      }
      if (points(line).length) picture.append(svg("path", { class: `line${k}`, d: `M${points(line).join("L")}` }));
      for (const point of xs.length > 40 ? [] : points(line)) {
        const [cx, cy] = point.split(" ");
        picture.append(svg("circle", { class: `dot${k}`, cx, cy, r: 2.6 }));
      }
      picture.append(svg("text", { class: `name${k}`, x: WIDE - RIGHT, y: TOP + 4 + 15 * k, "text-anchor": "end" }, `${k ? "- -" : "—"} ${plot.curves[k].name}`));
    });
    const figure = make("figure");
    figure.append(make("figcaption", plot.title), picture);
    return figure;
  };
  const pointsTable = (spec, xs, row, at) => {
    const columns = spec.plots.flatMap((plot) => plot.curves.flatMap((curve) => [[curve.name, curve.y], ...(curve.low ? [["lowest seed", curve.low], ["highest seed", curve.high]] : [])]));
    const table = make("table", "", { class: "listing" });
    const head = table.createTHead().insertRow();
    for (const name of ["epoch", ...columns.map(([name]) => name)]) head.append(make("th", name, { scope: "col", class: "number" }));
    const body = table.createTBody();
    xs.forEach((each, i) => {
      const line = body.insertRow();
      for (const value of [each, ...columns.map(([, name]) => at(name, row)[i])]) line.append(make("td", say(value), { class: "number" }));
    });
    return table;
  };
  const choose = (key) => {
    for (const block of all(".plots")) {
      const spec = JSON.parse(block.dataset.spec), { at, n } = answerOf(block);
      const row = [...Array(n).keys()].find((each) => at(spec.key, each) === key);
      const said = block.querySelector(".chosen"), place = block.querySelector(".drawn"), table = block.querySelector(".points");
      if (row === undefined) {
        said.textContent = "The cell that is chosen has no result yet.";
        place.replaceChildren(), table.replaceChildren();
        continue;
      }
      const words = spec.names.map((name) => [name, at(name, row)]).filter(([, value]) => value !== null);
      said.textContent = words.map(([name, value]) => `${name} ${say(value)}`).join(", ");
      const xs = at(spec.x, row);
      place.replaceChildren(...spec.plots.map((plot) => drawn(plot, xs, row, at)));
      table.replaceChildren(pointsTable(spec, xs, row, at));
    }
    for (const maps of all(".maps")) {
      const { at } = answerOf(maps);
      for (const button of all("[aria-pressed]", maps)) button.removeAttribute("aria-pressed");
      for (const button of all("button", maps)) {
        if (at(maps.dataset.key, Number(button.dataset.row)) === key) button.setAttribute("aria-pressed", true);
      }
    }
  };
  for (const block of all(".plots")) choose(JSON.parse(block.dataset.spec).first);

  // --- sorting, copying, downloads ------------------------------------------------------------
  const sortable = (cell) => {
    const text = cell.dataset.value ?? cell.textContent;
    const value = cell.classList.contains("number") ? Number(text.replace("inf", "Infinity")) : NaN;
    return Number.isNaN(value) ? text : value;
  };
  const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  for (const head of all("table.listing[data-answer] thead th")) {
    const button = make("button", head.textContent, { type: "button" });
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const body = head.closest("table").tBodies[0];
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [sortable(row.cells[head.cellIndex]), row]);
      const empty = rows.filter(([value]) => value === ""), full = rows.filter(([value]) => value !== "");
      full.sort(([a], [b]) => down ? compare(b, a) : compare(a, b));
      body.append(...[...full, ...empty].map(([, row]) => row));
    });
  }
  for (const table of all("table.listing[data-answer]").filter((each) => each.tBodies[0].rows.length > 12)) {
    const box = make("input", "", { type: "search", placeholder: "whole words, such as 784-32-10 IL" });
    const label = make("label", "Show rows with ");
    label.append(box);
    const line = make("p", "", { class: "tools" });
    line.append(label);
    table.parentNode.before(line);
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of table.tBodies[0].rows) {
        const there = [...row.cells].flatMap((cell) => cell.textContent.toLowerCase().split(/[\s,]+/));
        row.hidden = !words.every((word) => there.includes(word));
      }
    });
  }
  const save = (blob, name) => {
    const link = make("a", "", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const quoted = (value) => {
    const text = value === null ? "" : Array.isArray(value) ? JSON.stringify(value) : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = ({ names, n, at }) =>
    [names, ...Array.from({ length: n }, (_, row) => names.map((name) => at(name, row)))]
      .map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n";
  for (const button of all("button.csv")) {
    button.addEventListener("click", () => {
      const place = button.closest("[data-answer]").dataset.answer;
      save(new Blob([csv(answerOf(button))], { type: "text/csv" }), `query-${place}.csv`);
    });
  }
  const copied = async (text) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = make("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  for (const button of all("button.copy")) {
    button.addEventListener("click", async () => {
      await copied(button.closest(".query").querySelector(`.${button.dataset.copy}`).textContent);
      const before = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = before; }, 1500);
    });
  }
  for (const button of all("button.file")) {
    button.addEventListener("click", async () => {
      const text = document.querySelector(`script[data-file="${button.dataset.name}"]`).textContent;
      const bytes = Uint8Array.from(atob(text.trim()), (each) => each.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      save(await new Response(stream).blob(), button.dataset.name);
    });
  }
})();
