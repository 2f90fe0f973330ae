// Search over names, columns and descriptions: `/` goes there, arrows choose, Enter opens.

const MOST_FOUND = 40;

const entries = (() => {
  let all = null;
  const entry = (kind, label, text, href, rank, own = text) => ({ kind, label, text, href, rank, name: label.toLowerCase(), all: `${label} ${text}`.toLowerCase(), own: own.toLowerCase() });
  return () => {
    all ??= [
      ...lake.tables.map((t) => entry(t.kind, t.name, [t.grain, t.description].filter(Boolean).join(". "), toTable(t.name), 0)),
      ...lake.sources.map((source) => entry("origin", source.name, "source", toSource(source.name), 1)),
      ...lake.tables.flatMap((t) => t.columns.map((c) => entry("column", c.name, c.description ? `${t.name}: ${c.description}` : t.name, toColumn(t.name, c.name), 2, c.description || ""))),
    ];
    return all;
  };
})();

// How well a text fits, less is better: the name itself, its beginning, the beginning of a word in it, anywhere, its
// description. A column is not found by the name of its table alone.
function fit(entry, words) {
  let sum = entry.rank * 0.5;
  if (!words.some((word) => entry.name.includes(word) || entry.own.includes(word))) return null;
  for (const word of words) {
    const at = entry.name.indexOf(word);
    if (at < 0 && !entry.all.includes(word)) return null;
    const short = entry.name.slice(entry.name.lastIndexOf(".") + 1);
    sum += short === word || entry.name === word ? 0 : short.startsWith(word) || at === 0 ? 1 : at > 0 && /[^a-z0-9]/.test(entry.name[at - 1]) ? 2 : at > 0 ? 3 : 5;
  }
  return sum + entry.name.length / 1000;
}

function find(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const found = [];
  for (const entry of entries()) {
    const how = fit(entry, words);
    if (how !== null) found.push([how, entry]);
  }
  return found.sort((a, b) => a[0] - b[0]).map(([, entry]) => entry);
}

function searchBox() {
  const input = document.getElementById("search");
  const list = document.getElementById("found");
  let at = -1;
  const close = () => { list.hidden = true; at = -1; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); };
  const choose = (n) => {
    const items = [...list.querySelectorAll("[role=option]")];
    if (!items.length) return;
    at = (n + items.length) % items.length;
    items.forEach((item, i) => item.setAttribute("aria-selected", String(i === at)));
    items[at].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", items[at].id);
  };
  const update = () => {
    const found = find(input.value);
    list.replaceChildren(...found.slice(0, MOST_FOUND).map(option), ...(input.value.trim() ? [remark(found.length)] : []));
    list.hidden = !input.value.trim();
    input.setAttribute("aria-expanded", String(!list.hidden));
    document.getElementById("said").textContent = input.value.trim() ? many(found.length, "result") : "";
    at = -1;
    if (found.length) choose(0);
  };
  input.addEventListener("input", update);
  input.addEventListener("focus", () => { if (input.value) update(); });
  input.addEventListener("keydown", (event) => {
    const act = { ArrowDown: () => choose(at + 1), ArrowUp: () => choose(at - 1), Escape: () => { input.value = ""; close(); },
      Enter: () => { const item = list.querySelectorAll("[role=option]")[at]; if (item) item.querySelector("a").click(); } }[event.key];
    if (!act || (event.key !== "Escape" && list.hidden)) return;
    event.preventDefault();
    act();
  });
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus until the link is followed
  list.addEventListener("click", (event) => { if (event.target.closest("a")) { input.value = ""; close(); input.blur(); } });
  input.addEventListener("blur", close);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    event.preventDefault();
    input.focus();
    input.select();
  });
}

function option(entry, n) {
  const kind = entry.kind === "column" ? "column" : entry.kind === "origin" ? "source" : KINDS[entry.kind];
  return h("li", { role: "option", id: `found-${n}`, "aria-selected": "false" },
    h("a", { href: entry.href, tabindex: -1 }, h("span", { class: "name" }, entry.label), h("span", { class: "note" }, kind), h("span", { class: "text" }, entry.text.slice(0, 200))));
}

const remark = (count) =>
  h("li", { class: "note", role: "presentation" }, count > MOST_FOUND ? `${number(count)} results, the best ${MOST_FOUND} are shown` : count ? many(count, "result") : "Nothing found");
