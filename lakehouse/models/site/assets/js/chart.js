// Row counts over time, as steps. The frame is the data's own: its least and greatest, its first and last.

// When loads of its source failed, as far as they are told, since there is the table.
const failuresOf = (table) => (sources.get(sourceOf(table.name)).failed || []).filter((l) => l.seq > table.first_seq).map((l) => milliseconds(instantOf(sourceOf(table.name), l.seq)));

const pointsOf = (table) =>
  (table.points || []).map(([seq, rows]) => ({ seq, rows, at: milliseconds(instantOf(sourceOf(table.name), seq) || "") })).filter((p) => !Number.isNaN(p.at));

function scaled(points, width, height, pad) {
  const rows = points.map((p) => p.rows);
  const most = Math.max(...rows);
  const least = Math.min(...rows) < most / 2 ? 0 : Math.min(...rows);
  const first = points[0].at;
  const span = points[points.length - 1].at - first || 1;
  const x = (at) => pad.left + ((at - first) / span) * (width - pad.left - pad.right);
  const y = (n) => height - pad.bottom - ((n - least) / (most - least || 1)) * (height - pad.top - pad.bottom);
  return { x, y, least, most };
}

function steps(points, { x, y }) {
  let path = `M${x(points[0].at).toFixed(1)} ${y(points[0].rows).toFixed(1)}`;
  for (const point of points.slice(1)) path += `H${x(point.at).toFixed(1)}V${y(point.rows).toFixed(1)}`;
  return path;
}

function spark(table) {
  const points = pointsOf(table);
  if (points.length < 2) return null;
  const [width, height] = [88, 18];
  const scale = scaled(points, width, height, { left: 1, right: 3, top: 2, bottom: 2 });
  const last = points[points.length - 1];
  return s("svg", { class: "spark", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    s("path", { d: steps(points, scale) }), s("circle", { cx: scale.x(last.at), cy: scale.y(last.rows), r: 1.8 }));
}

function chart(table) {
  const points = pointsOf(table);
  const box = h("div", { class: "chart" });
  const draw = () => {
    const width = Math.round(box.clientWidth);
    if (width > 0) box.replaceChildren(drawn(table, points, width));
  };
  new ResizeObserver(draw).observe(box);
  return box;
}

function drawn(table, points, width) {
  const height = 150;
  const rows = points.map((p) => p.rows);
  const [low, high] = [Math.min(...rows), Math.max(...rows)];
  const [first, last] = [points[0], points[points.length - 1]];
  const pad = { left: Math.max(number(high).length * 7.5 + 10, 24), right: number(last.rows).length * 7.5 + 14, top: 18, bottom: 24 };
  const scale = scaled(points, width, height, pad);
  const label = (x, y, text, anchor) => s("text", { x, y, "text-anchor": anchor }, text);
  const svg = s("svg", {
    width, height, role: "img",
    "aria-label": `Rows of ${table.name}: ${number(first.rows)} at first, ${number(last.rows)} now; least ${number(low)}, most ${number(high)}`,
  });
  svg.append(
    s("path", { class: "frame", d: `M${pad.left - 5} ${scale.y(low)}V${scale.y(high)}M${scale.x(first.at)} ${height - pad.bottom + 5}H${scale.x(last.at)}` }),
    s("path", { class: "failed", d: failuresOf(table).filter((at) => at >= first.at && at <= last.at).map((at) => `M${scale.x(at).toFixed(1)} ${height - pad.bottom + 2}v6`).join("") || null }),
    s("path", { class: "line", d: steps(points, scale) }),
    s("circle", { class: "end", cx: scale.x(last.at), cy: scale.y(last.rows), r: 3 }),
    label(pad.left - 9, scale.y(high) + 4, number(high), "end"),
    label(scale.x(last.at) + 8, scale.y(last.rows) + 4, number(last.rows), "start"),
    label(scale.x(first.at), height - 4, day(new Date(first.at).toISOString()), "start"),
  );
  if (scale.y(low) - scale.y(high) > 14) svg.append(label(pad.left - 9, scale.y(low) + 4, number(low), "end"));
  if (width > 260 && last.at > first.at) svg.append(label(scale.x(last.at), height - 4, day(new Date(last.at).toISOString()), "end"));
  svg.append(...readout(points, scale, width, height, pad));
  return svg;
}

// What the chart says under the pointer.
function readout(points, scale, width, height, pad) {
  const text = s("text", { class: "told", y: 10, "text-anchor": "middle" });
  const mark = s("circle", { class: "mark", r: 3 });
  const group = s("g", { visibility: "hidden" }, mark, text);
  const area = s("rect", { x: 0, y: 0, width, height, fill: "transparent" });
  area.addEventListener("pointermove", (event) => {
    const at = event.clientX - area.getBoundingClientRect().left;
    const near = points.reduce((best, p) => (Math.abs(scale.x(p.at) - at) < Math.abs(scale.x(best.at) - at) ? p : best));
    text.textContent = `${number(near.rows)} · load ${number(near.seq)}, ${minute(new Date(near.at).toISOString())}`;
    const half = text.getComputedTextLength() / 2;
    text.setAttribute("x", Math.min(Math.max(scale.x(near.at), half + 2), width - half - 2));
    mark.setAttribute("cx", scale.x(near.at));
    mark.setAttribute("cy", scale.y(near.rows));
    group.setAttribute("visibility", "visible");
  });
  area.addEventListener("pointerleave", () => group.setAttribute("visibility", "hidden"));
  return [group, area];
}
