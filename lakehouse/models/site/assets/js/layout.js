// Where the boxes of a lineage graph lie, left to right, and how they look. The layout itself is dagre's.

const BOX = { height: 26, most: 34, letter: 7.3 };
const prefix = (name) => (isModel(tables.get(name) || {}) ? "" : `${sourceOf(name)}.`);
const boxText = (name) => shortened(tableOf(name), BOX.most - Math.min(prefix(name).length, 12));
const boxWidth = (name) => (shortened(prefix(name), 14).length + boxText(name).length) * BOX.letter + 30;

function laidOut(names) {
  const shown = new Set(names);
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 8, edgesep: 6, ranksep: 48, rankalign: "top", marginx: 12, marginy: 12, ranker: shown.size > 150 ? "tight-tree" : "network-simplex" });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const name of shown) graph.setNode(name, { width: boxWidth(name), height: BOX.height });
  for (const name of shown) for (const from of reads(name)) if (shown.has(from) && from !== name) graph.setEdge(from, name);
  dagre.layout(graph);
  return graph;
}

// Through the middle of the gap between two columns of boxes, level where it leaves and arrives.
function edgePath(graph, edge) {
  const [from, to] = [graph.node(edge.v), graph.node(edge.w)];
  const [left, right] = [from.x + from.width / 2, to.x - to.width / 2];
  const inner = graph.edge(edge).points.filter((p) => p.x > left + 4 && p.x < right - 4);
  const points = [{ x: left, y: from.y }, ...(inner.length > 1 ? inner : []), { x: right, y: to.y }];
  let path = `M${left} ${from.y}`;
  for (let n = 1; n < points.length; n += 1) {
    const [a, b] = [points[n - 1], points[n]];
    const half = (b.x - a.x) / 2;
    path += `C${a.x + half} ${a.y} ${b.x - half} ${b.y} ${b.x} ${b.y}`;
  }
  return path;
}

function said(name) {
  const [from, to] = [reads(name), readBy(name)];
  return `${name}, ${KINDS[kindOf(name)]}; ${from.length ? `reads ${from.join(", ")}` : "reads nothing"}; ${to.length ? `is read by ${to.join(", ")}` : "is read by nothing"}`;
}

function box(graph, name, here) {
  const { x, y, width } = graph.node(name);
  const body = [
    s("title", {}, said(name)),
    s("rect", { class: "body", x: -width / 2, y: -BOX.height / 2, width, height: BOX.height, rx: kindOf(name) === "source" ? 0 : 5 }),
    s("rect", { class: "stripe", x: -width / 2, y: -BOX.height / 2, width: 4, height: BOX.height }),
    s("text", { x: -width / 2 + 13, y: 4 }, s("tspan", { class: "of" }, shortened(prefix(name), 14)), boxText(name)),
  ];
  const own = { class: `box ${kindOf(name)}${name === here ? " here" : ""}`, transform: `translate(${x} ${y})`, "data-name": name };
  return tables.has(name) ? s("a", { ...own, href: toTable(name), "aria-label": said(name) }, body) : s("g", own, body);
}

function drawing(graph, here) {
  const edges = graph.edges().map((edge) =>
    s("path", { class: "edge", d: edgePath(graph, edge), "data-from": edge.v, "data-to": edge.w }));
  return [s("g", { class: "edges", "aria-hidden": "true" }, edges), s("g", { class: "boxes" }, graph.nodes().map((name) => box(graph, name, here)))];
}

// A table with what it reads and what reads it, as a picture in its page.
function neighbourhood(name, names) {
  const graph = laidOut(names);
  const { width, height } = graph.graph();
  return h("div", { class: "near", tabindex: 0, role: "region", "aria-label": `What is next to ${name}` },
    s("svg", { class: "graph", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${name}, what it reads and what reads it` }, drawing(graph, name)));
}
