// The page of a table or a model.

function tablePage(name) {
  const table = tables.get(name);
  if (!table) return missing(`table or model ${name}`);
  const gone = table.columns.filter((c) => c.gone_seq !== undefined);
  return [
    h("p", { class: "kind" }, badge(table.kind), table.language === "python" ? "Python" : null),
    h("h1", { class: "mono" }, h("a", { class: "of", href: toSource(sourceOf(name)) }, `${sourceOf(name)}.`), tableOf(name)),
    table.description ? prose(table.description) : null,
    about(table),
    lineageOf(table),
    table.sql ? section(table.language === "python" ? "Python" : "SQL", where(table), modelText(table)) : null,
    section("Columns", table.columns.length ? columns(table, table.columns.filter((c) => c.gone_seq === undefined), "Columns")
      : h("p", { class: "note" }, "No columns are known.")),
    gone.length ? section("Columns that are gone", columns(table, gone, "Columns that are gone")) : null,
    (table.tests || []).length ? section("Tests", tests(table)) : null,
    (table.points || []).length > 1 ? section("Rows over time", chart(table), failuresOf(table).length ? h("p", { class: "note" }, h("span", { class: "bad" }, "|"), " a load of ", sourceOf(name), " that failed") : null) : null,
    table.inputs && table.inputs.length ? section(READ[table.kind] || READ.table, inputs(table)) : null,
    (table.drift || []).some((e) => e.seq !== table.first_seq) ? section("Shape over time", drift(table)) : null,
    (table.loads || []).length ? section("Loads", some(table.loads.length, table.load_count), loads(table)) : null,
  ];
}

function about(table) {
  const source = sourceOf(table.name);
  const key = table.key && table.key.length ? table.key.map((k, n) => [n ? ", " : "", code(k)]) : null;
  return facts([
    ["One row is", table.grain], ["Key", key], ["Rows", table.rows === undefined ? null : number(table.rows)],
    ["Stored", table.kind === "view" ? "no: computed when it is read" : null], ["Disposition", table.disposition],
    ["Since", table.first_seq === table.last_seq ? null : loadAt(source, table.first_seq)], ["Last load", loadAt(source, table.last_seq, minute)],
    ["Files", table.files ? `${number(table.files)}, ${size(table.size_bytes)}` : null],
  ]);
}

const where = (table) => (table.path ? h("p", { class: "note" }, code(table.path), table.line > 1 ? `, from line ${table.line}` : null) : null);

function lineageOf(table) {
  const [from, to] = [reads(table.name), readBy(table.name)];
  if (!from.length && !to.length) return null;
  const near = [table.name, ...from, ...to];
  return section("Lineage",
    near.length <= 40 ? neighbourhood(table.name, near) : h("div", { class: "pair" },
      from.length ? h("div", {}, h("h3", {}, "Reads"), listed(from, tableName)) : null,
      to.length ? h("div", {}, h("h3", {}, "Is read by"), listed(to, tableName)) : null),
    h("p", { class: "note" }, h("a", { href: toGraph(table.name) }, "All that it comes from and goes into")));
}

function columns(table, own, caption) {
  const source = sourceOf(table.name);
  const key = keyOf(table);
  const uses = new Map(own.map((c) => [c, usedBy(table.name, c.name)]));
  const began = (seq) => seq === table.first_seq;
  const all = [
    { name: "Column", class: "who", of: (c) => [code(c.name), key.has(c.name) ? h("span", { class: "key", title: "part of the key" }, "key") : null] },
    { name: "Type", class: "typed", of: (c) => typeText(c.type) },
    { name: "Description", class: "what", of: (c) => [c.description ? prose(c.description) : null, c.source_name === undefined ? null : h("p", { class: "note" }, "called ", code(c.source_name), " at the source")].filter(Boolean) },
    { name: "Tests", class: "tests", of: (c) => testsOf(table, c) },
    { name: "Comes from", class: "lineage", of: (c) => (c.from && c.from.length ? listed(c.from, columnName) : null) },
    { name: "Goes into", class: "lineage", of: (c) => (uses.get(c).length ? folded(uses.get(c), columnName) : null) },
    { name: "Since", class: "when", of: (c) => h("span", { class: began(c.first_seq) ? "faint" : null }, loadAt(source, c.first_seq)) },
    { name: "Gone since", class: "when", of: (c) => loadAt(source, c.gone_seq) },
  ];
  const since = own.some((c) => !began(c.first_seq) || c.gone_seq !== undefined);
  return grid(caption, all.filter((column) => since || column.name !== "Since"), own, { class: "columns", row: (c) => ({ id: columnId(c.name), class: c.gone_seq === undefined ? null : "gone" }) });
}

const columnId = (name) => `column:${name}`;

function typeText(type) {
  if (!type) return null;
  return type.length <= 72 ? h("span", { class: "type" }, type)
    : h("details", {}, h("summary", { class: "type" }, `${type.slice(0, 60)} …`), h("span", { class: "type" }, type));
}

function folded(items, draw) {
  if (items.length <= 4) return listed(items, draw);
  return h("details", {}, h("summary", {}, `${number(items.length)} columns`), listed(items, draw));
}

const testsOf = (table, column) =>
  (table.tests || []).filter((t) => t.columns.includes(column.name) && (t.kind === "not_null" || t.columns.length === 1)).map((t, n) => [n ? ", " : "", t.kind.replaceAll("_", " ")]);

const bounds = ({ min, max }) => (min === undefined && max === undefined ? "anything" : min === undefined ? `at most ${max}` : max === undefined ? `at least ${min}` : `${min} to ${max}`);

function testText(test) {
  const given = test.arguments;
  const own = test.columns.map((c, n) => [n ? ", " : "", code(c)]);
  const kinds = {
    unique: () => ["no two rows have the same ", own],
    not_null: () => ["no null in ", own],
    accepted_values: () => [own, " is one of ", h("span", {}, [].concat(given.values || []).map(String).join(", "))],
    relationships: () => ["each ", own, " is in ", columnName(String(given.to))],
    range: () => [own, " is ", bounds(given)],
    row_count: () => [bounds(given), " rows"],
    sql: () => [code(String(given.path)), " finds no rows", given.description ? h("p", { class: "note" }, inline(given.description)) : null],
    freshness: () => ["the newest ", own, " is at most ", String(given.within), " older than the newest load that was read"],
  };
  return Object.hasOwn(kinds, test.kind) ? kinds[test.kind]() : [`${test.kind} `, code(JSON.stringify(given))];
}

function tests(table) {
  return grid("Tests", [
    { name: "Test", class: "who", of: (t) => t.kind.replaceAll("_", " ") },
    { name: "What it asks", class: "what", of: testText },
    { name: "A failure", of: (t) => (t.severity === "warn" ? "warns" : "blocks publishing") },
    { name: "Last result", of: result },
  ], table.tests);
}

// What is known of the last run: what was published passed its tests; of failures the rows are counted.
function result(test) {
  if (test.failures) return h("span", { class: "bad" }, `${many(test.failures, "row")} failed`);
  return test.severity === "warn" ? null : "passed";
}

const READ = { view: "What it was last tested on", table: "What it was built from" };

function inputs(table) {
  const own = (input) => sourceOf(input.name) !== "lakehouse"; // tables about the lake have no log
  const forms = new Map(table.reads.map((read) => [read.name, read.forms || []]));
  return grid(READ[table.kind] || READ.table, [
    { name: "Table", class: "who", of: (i) => [tableName(i.name), (forms.get(i.name) || []).map((form) => [" ", h("span", { class: "form" }, `_${form}`)])] },
    { name: "As of", class: "when", of: (i) => (own(i) ? loadAt(sourceOf(i.name), i.seq, minute) : null) },
    { name: "Commit", of: (i) => (i.digest ? code(i.digest.slice(0, 12)) : null) },
    { name: "Since then", of: (i) => (table.kind === "view" ? null : since(i)) },
  ], table.inputs);
}

function since(input) {
  const read = tables.get(input.name);
  if (!read) return sourceOf(input.name) === "lakehouse" ? null : "not in this lake";
  if (read.last_seq === undefined) return null;
  return read.last_seq > input.seq ? h("span", { class: "bad" }, "newer loads") : "nothing new";
}

function drift(table) {
  const name = (e) => (e.columns ? (e.columns.length > 12 ? h("details", {}, h("summary", {}, many(e.columns.length, "column")), codes(e.columns)) : codes(e.columns)) : null);
  const words = { began: "table began", anew: "state began anew", came: "came", went: "went", "came back": "came back", type: "changed type" };
  return grid("Shape over time", [
    { name: "When", class: "when", of: (e) => loadAt(sourceOf(table.name), e.seq, minute) },
    { name: "What", of: (e) => words[e.what] || (e.detail.includes(" -> ") ? `${e.what} changed` : e.what) },
    { name: "Columns", class: "what", of: (e) => name(e) || (e.column_count ? many(e.column_count, "column") : null) },
    { name: "How", class: "how", of: (e) => e.detail.replaceAll(" -> ", " → ") },
  ], table.drift);
}

const codes = (names) => names.map((name, n) => [n ? ", " : "", code(name)]);

function loads(table) {
  return grid("Loads", [
    { name: "Load", class: "n", of: (l) => number(l.seq) },
    { name: "Effective", class: "when", of: (l) => stamp(instantOf(sourceOf(table.name), l.seq)) },
    { name: "Rows", class: "n", of: (l) => number(l.rows || 0) },
    ...FIGURES,
    { name: "", of: (l) => (l.anew && !table.key?.length ? "new snapshot" : null) },
  ], table.loads, { class: "loads" });
}
