// The lineage of everything, or of all that is up- and downstream of one table: to move, to zoom, to walk through.

const REACHES = [["all", Infinity], ["0", 0], ["1", 1], ["2", 2], ["3", 3]];
const stepsOf = (text) => (REACHES.find(([name]) => name === text) || REACHES[0])[1];

function graphPage(focus, query) {
  const known = new Set(lake.tables.flatMap((t) => (reads(t.name).length || isModel(t) ? [t.name, ...reads(t.name)] : [])));
  if (focus && !tables.has(focus)) return missing(`table or model ${focus}`);
  const names = focus
    ? [focus, ...reach(focus, reads, stepsOf(query.get("up"))), ...reach(focus, readBy, stepsOf(query.get("down")))]
    : [...known];
  const apart = lake.tables.filter((t) => !known.has(t.name)).length;
  const bar = toolbar(focus, query, names);
  if (!names.length) {
    return [h("h1", {}, "Lineage"), h("p", { class: "note" }, "There are no models, so nothing reads anything yet. A SELECT in a file of ", code("models/"), " is one; ", code("lakehouse build"), " publishes it.")];
  }
  const note = !focus && apart ? h("p", { class: "apart" }, `${many(apart, "table")} that no model reads ${apart === 1 ? "is" : "are"} not drawn.`) : null;
  return [h("h1", { class: "unseen" }, focus ? `Lineage of ${focus}` : "Lineage"), bar, canvas(names, focus), note, legend(names)];
}

function toolbar(focus, query, names) {
  const go = (name, changed) => {
    const next = new URLSearchParams({ ...Object.fromEntries(query), ...changed }).toString();
    location.hash = toGraph(name) + (name && next ? `?${next}` : "");
  };
  const choice = (label, key) => h("label", {}, label, h("select", { onchange: (e) => go(focus, { [key]: e.target.value }) },
    REACHES.map(([name]) => h("option", { value: name, selected: (query.get(key) || "all") === name }, name))));
  const options = h("datalist", { id: "tables" }, lake.tables.map((t) => h("option", { value: t.name })));
  const input = h("input", { type: "search", list: "tables", value: focus || "", placeholder: "a table or model", "aria-label": "Focus on a table or model", autocomplete: "off", spellcheck: "false" });
  input.addEventListener("input", () => mark(input.value.trim().toLowerCase()));
  input.addEventListener("change", () => { if (tables.has(input.value.trim()) || !input.value.trim()) go(input.value.trim(), {}); });
  return h("div", { class: "tools" },
    h("label", {}, "Focus ", input, options), focus ? [choice("Upstream ", "up"), choice("Downstream ", "down")] : null,
    h("span", { class: "zoom" }, [["−", "Zoom out"], ["+", "Zoom in"], ["Fit", "Show all of it"]].map(([text, label]) =>
      h("button", { type: "button", "aria-label": label, "data-zoom": text }, text))),
    h("details", { class: "aslist" }, h("summary", {}, "As a list"), h("ul", {}, [...names].sort().map((name) => h("li", {}, tableName(name), reads(name).length ? [" ← ", reads(name).join(", ")] : null)))));
}

const legend = (names) => h("p", { class: "legend" }, [...new Set(names.map(kindOf))].sort().map((kind) => badge(kind)));

// What is typed is lit up where it is, before it is chosen.
function mark(text) {
  for (const node of document.querySelectorAll(".canvas .box")) node.classList.toggle("meant", Boolean(text) && node.dataset.name.toLowerCase().includes(text));
}

function canvas(names, focus) {
  const graph = laidOut(names);
  const { width, height } = graph.graph();
  const inner = s("g", {}, drawing(graph, focus));
  const svg = s("svg", { class: "graph", role: "group", tabindex: 0,
    "aria-label": `Lineage, left to right: ${many(graph.nodeCount(), "table")} and ${many(graph.edgeCount(), "edge")}. Arrows move, plus and minus zoom, 0 shows all; each box is a link. The same is in “As a list”.` }, inner);
  const tip = h("div", { class: "tip", hidden: true });
  const area = h("div", { class: "canvas" }, svg, tip);
  light(svg, tip, area);
  move(svg, inner, { width, height }, focus ? graph.node(focus) : null);
  return area;
}

// Under the pointer, or where the keyboard is: all that it comes from and goes into; the rest steps back.
function light(svg, tip, area) {
  const on = (name) => {
    const near = name ? new Set([name, ...reach(name, reads), ...reach(name, readBy)]) : null;
    const [up, down] = name ? [reach(name, reads).add(name), reach(name, readBy).add(name)] : [];
    svg.classList.toggle("lit", Boolean(name));
    for (const node of svg.querySelectorAll(".box")) node.classList.toggle("on", Boolean(near && near.has(node.dataset.name)));
    for (const edge of svg.querySelectorAll(".edge")) {
      const { from, to } = edge.dataset;
      edge.classList.toggle("on", Boolean(name) && ((up.has(from) && up.has(to)) || (down.has(from) && down.has(to))));
    }
  };
  const tell = (node) => {
    on(node && node.dataset.name);
    tip.hidden = !node;
    if (!node) return;
    tip.textContent = `${node.dataset.name} · ${KINDS[kindOf(node.dataset.name)]}`;
    const [at, frame] = [node.getBoundingClientRect(), area.getBoundingClientRect()];
    tip.style.left = `${Math.max(4, Math.min(at.left - frame.left, frame.width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, at.top - frame.top - tip.offsetHeight - 4)}px`;
  };
  svg.addEventListener("pointerover", (event) => { if (!svg.classList.contains("moving")) tell(event.target.closest(".box")); });
  svg.addEventListener("pointerleave", () => tell(null));
  svg.addEventListener("focusin", (event) => tell(event.target.closest(".box")));
  svg.addEventListener("focusout", () => tell(null));
}
