// Addresses within the page, and the small things that stand for a table.

const toTable = (name) => `#/t/${encodeURIComponent(name)}`;
const toColumn = (name, column) => `${toTable(name)}/${encodeURIComponent(column)}`;
const toSource = (name) => `#/s/${encodeURIComponent(name)}`;
const toGraph = (name) => (name ? `#/graph/${encodeURIComponent(name)}` : "#/graph");

// `shop.products`, the source in grey; a link where there is a page of it.
function tableName(name, text = tableOf(name)) {
  const inner = [h("span", { class: "of" }, `${sourceOf(name)}.`), h("wbr"), text];
  return tables.has(name) ? h("a", { class: "name", href: toTable(name) }, inner)
    : h("span", { class: "name missing", title: `${KINDS[kindOf(name)]}` }, inner);
}

function columnName(origin) {
  const [table, column] = columnOf(origin);
  const known = tables.has(table) && tables.get(table).columns.some((c) => c.name === column);
  const inner = [h("span", { class: "of" }, `${sourceOf(table)}.`, h("wbr"), `${tableOf(table)}.`), h("wbr"), column];
  return known ? h("a", { class: "name", href: toColumn(table, column) }, inner) : h("span", { class: "name" }, inner);
}

const sign = (kind) => h("span", { class: `sign ${kind}`, role: "img", "aria-label": KINDS[kind], title: KINDS[kind] });
const badge = (kind) => h("span", { class: "badge" }, sign(kind), KINDS[kind]);
const listed = (items, draw) => h("ul", { class: "names" }, items.map((item) => h("li", {}, draw(item))));

function problemBox(problem) {
  return h("div", { class: "problem", role: "note" }, h("strong", {}, problem.about), ": ", problem.message, problem.hint ? h("p", {}, problem.hint) : null);
}
