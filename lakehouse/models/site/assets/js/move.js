// Moving and zooming a drawing: wheel, drag, two fingers, keys, buttons.

const ZOOM = { least: 0.04, most: 3, legible: 0.42, step: 1.3 };

function move(svg, inner, size, centre) {
  const view = { x: 0, y: 0, scale: 1 };
  const show = () => {
    inner.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale})`);
    svg.classList.toggle("far", view.scale < ZOOM.legible);
  };
  const zoom = (factor, x = svg.clientWidth / 2, y = svg.clientHeight / 2) => {
    const scale = Math.min(ZOOM.most, Math.max(ZOOM.least, view.scale * factor));
    view.x = x - ((x - view.x) * scale) / view.scale;
    view.y = y - ((y - view.y) * scale) / view.scale;
    view.scale = scale;
    show();
  };
  const fit = (least = ZOOM.least) => {
    const [width, height] = [svg.clientWidth, svg.clientHeight];
    view.scale = Math.min(1.15, Math.max(least, Math.min(width / size.width, height / size.height)));
    view.x = (width - size.width * view.scale) / 2;
    view.y = (height - size.height * view.scale) / 2;
    if (centre && (view.x < 0 || view.y < 0)) {
      view.x = width / 2 - centre.x * view.scale;
      view.y = height / 2 - centre.y * view.scale;
    }
    show();
  };
  const first = new ResizeObserver(() => { if (svg.clientWidth) { first.disconnect(); fit(centre ? 0.6 : ZOOM.least); } });
  first.observe(svg);
  const shift = (x, y) => { view.x += x; view.y += y; show(); };
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { left, top } = svg.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX - left, event.clientY - top);
  }, { passive: false });
  svg.addEventListener("keydown", (event) => {
    const act = { "+": () => zoom(ZOOM.step), "=": () => zoom(ZOOM.step), "-": () => zoom(1 / ZOOM.step), 0: () => fit(),
      ArrowLeft: () => shift(60, 0), ArrowRight: () => shift(-60, 0), ArrowUp: () => shift(0, 60), ArrowDown: () => shift(0, -60) }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  svg.addEventListener("focusin", (event) => { if (event.target.matches(".box") && event.target.matches(":focus-visible")) intoView(svg, event.target, shift); });

  queueMicrotask(() => {
    for (const button of document.querySelectorAll(".zoom button")) {
      button.addEventListener("click", { "+": () => zoom(ZOOM.step), "−": () => zoom(1 / ZOOM.step), Fit: () => fit() }[button.dataset.zoom]);
    }
  });
  drag(svg, shift, zoom);
}

function intoView(svg, node, shift) {
  const [at, frame] = [node.getBoundingClientRect(), svg.getBoundingClientRect()];
  const off = (low, high, least, most) => (low < least ? least - low + 20 : high > most ? most - high - 20 : 0);
  shift(off(at.left, at.right, frame.left, frame.right), off(at.top, at.bottom, frame.top, frame.bottom));
}

function drag(svg, shift, zoom) {
  const fingers = new Map();
  let moved = 0;
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return b ? { far: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 } : { far: 1, ...a };
  };
  svg.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    if (!fingers.size) moved = 0;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  svg.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const before = spread();
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const after = spread();
    moved += Math.abs(after.x - before.x) + Math.abs(after.y - before.y);
    if (moved < 5) return;
    if (!svg.hasPointerCapture(event.pointerId)) svg.setPointerCapture(event.pointerId);
    svg.classList.add("moving");
    shift(after.x - before.x, after.y - before.y);
    const { left, top } = svg.getBoundingClientRect();
    if (fingers.size > 1) zoom(after.far / before.far, after.x - left, after.y - top);
  });
  const end = (event) => {
    fingers.delete(event.pointerId);
    if (!fingers.size) svg.classList.remove("moving");
  };
  svg.addEventListener("pointerup", end);
  svg.addEventListener("pointercancel", end);
  svg.addEventListener("click", (event) => { if (moved >= 5) event.preventDefault(); moved = 0; }, true);
  svg.addEventListener("dragstart", (event) => event.preventDefault());
}
