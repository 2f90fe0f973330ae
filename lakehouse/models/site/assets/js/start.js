// The first page, and the page of a source.

const MANY = 60; // of one source, on the first page

function startPage() {
  const models = lake.tables.filter(isModel);
  const loads = lake.sources.reduce((sum, source) => sum + (source.loads || 0), 0);
  const newest = lake.sources.filter(newestOf).sort((a, b) => milliseconds(newestOf(b)) - milliseconds(newestOf(a)))[0];
  return [
    h("h1", {}, document.querySelector(".home").textContent),
    lake.tables.length
      ? h("p", { class: "lead" },
        `${many(lake.tables.length - models.length, "table")} and ${many(models.length, "model")} from ${many(lake.sources.length, "source")}; `,
        `${many(loads, "load")}`, newest ? [", the newest ", stamp(newestOf(newest)), " UTC of ", newest.name] : null, ".")
      : h("p", { class: "lead" }, "Nothing was loaded into this lake yet. ", code("lakehouse ingest"), " or ", code("lakehouse import"), " does; then ", code("lakehouse docs build"), "."),
    lake.problems.map(problemBox),
    lake.tables.length && !models.length
      ? h("p", { class: "note" }, "There are no models: a SELECT in a file of ", code("models/"), " is one, and ", code("lakehouse build"), " publishes it.") : null,
    lake.sources.map(sourceList),
    lake.tags.length ? section("Tags", tagList()) : null,
    h("footer", {}, `Lake ${lake.lake_id}. Instants are UTC.`),
  ];
}

function sourceList(source) {
  const own = source.tables.map((name) => tables.get(name));
  return h("section", { class: "source" },
    h("h2", {}, h("a", { href: toSource(source.name) }, source.name), h("small", {}, source.problem ? "cannot be read" : state(source))),
    own.length ? tableList(`Tables of ${source.name}`, own.length > MANY ? own.slice(0, MANY) : own) : null,
    own.length > MANY ? h("p", { class: "note" }, h("a", { href: toSource(source.name) }, `All ${number(own.length)}`), ` of ${source.name}`) : null,
    own.length ? null : h("p", { class: "note" }, source.problem || "No tables yet."));
}

function state(source) {
  const parts = [counted(source), many(source.loads, "load")];
  if (source.failures) parts.push(h("span", { class: "bad" }, `${number(source.failures)} failed`));
  if (newestOf(source)) parts.push(["newest ", stamp(newestOf(source))]);
  return parts.map((part, n) => [n ? " · " : "", part]);
}

function counted(source) {
  const models = source.tables.filter((name) => isModel(tables.get(name))).length;
  const rest = source.tables.length - models;
  return [models ? many(models, "model") : null, rest || !models ? many(rest, "table") : null].filter(Boolean).join(", ");
}

function tableList(caption, own) {
  return grid(caption, [
    { name: "Name", class: "who", of: (t) => [sign(t.kind), h("a", { class: "name", href: toTable(t.name) }, tableOf(t.name))] },
    { name: "What it is", class: "what", of: (t) => inline(firstSentence(t.description || t.grain || "")) },
    { name: "Columns", class: "n", of: (t) => (t.columns.length ? number(t.columns.filter((c) => c.gone_seq === undefined).length) : null) },
    { name: "Rows", class: "n", of: (t) => (t.rows === undefined ? null : number(t.rows)) },
    { name: "Over time", class: "wide", of: (t) => spark(t) },
    { name: "Last load", class: "when", of: (t) => stamp(instantOf(sourceOf(t.name), t.last_seq), day) },
  ], own, { class: "tables", whole: true });
}

// The first sentence; of a long one its beginning.
function firstSentence(text) {
  const [first] = text.trim().split(/\n|(?<=[.!?]) +(?=[\p{Lu}`])/u);
  return first.length <= 150 ? first : `${first.slice(0, 140).replace(/\s+\S*$/, "")} …`;
}

function sourcePage(name) {
  const source = sources.get(name);
  if (!source) return missing(`source ${name}`);
  if (source.problem) return [h("h1", {}, name), problemBox({ about: "This source cannot be read", message: source.problem })];
  return [
    h("p", { class: "kind" }, "source"),
    h("h1", { class: "mono" }, name),
    facts([
      ["Loads", number(source.loads)], ["Nothing new in", number(source.unchanged)],
      ["Failed", source.failures ? h("span", { class: "bad" }, number(source.failures)) : "0"],
      ["First", stamp(source.instants[1])], ["Newest", stamp(newestOf(source))],
      ["States let go", source.expired ? number(source.expired) : null],
      ["Commit", source.digest ? code(source.digest.slice(0, 12)) : null],
    ]),
    section(name === "models" ? "Models" : "Tables", source.tables.length ? tableList(`Tables of ${name}`, source.tables.map((t) => tables.get(t))) : h("p", { class: "note" }, "No tables yet.")),
    source.failed.length ? section("Failures", some(source.failed.length, source.failures), grid("Failures", [
      { name: "Load", class: "n", of: (l) => number(l.seq) },
      { name: "Observed", class: "when", of: (l) => stamp(instantOf(name, l.seq)) },
      { name: "Why", class: "what", of: (l) => l.failure },
    ], source.failed)) : null,
    source.recent.length ? section("Loads", some(source.recent.length, source.head), grid("Loads", [
      { name: "Load", class: "n", of: (l) => number(l.seq) },
      { name: "Effective", class: "when", of: (l) => stamp(instantOf(name, l.seq)) },
      { name: "Outcome", of: (l) => h("span", { class: l.outcome === "failed" ? "bad" : null }, l.reverts_to === undefined ? l.outcome : `reverted to load ${l.reverts_to}`) },
      { name: "Tables", class: "n", of: (l) => l.tables || null }, ...FIGURES,
    ], source.recent, { class: "loads" })) : null,
  ];
}

const figure = (name, what, title) => ({ name, class: "n", of: (l) => (what(l) ? h("span", { title }, number(what(l))) : null) });
const FIGURES = [
  figure("+", (l) => (l.appeared || 0) + (l.appended || 0), "rows that appeared"),
  figure("~", (l) => l.changed, "rows that changed"),
  figure("−", (l) => l.disappeared, "rows that disappeared"),
];

const some = (told, all) => (told < all ? h("p", { class: "note" }, `The newest ${number(told)} of ${number(all)}.`) : null);

function tagList() {
  return grid("Tags", [
    { name: "Tag", class: "who", of: (t) => code(t.name) },
    { name: "For", class: "what", of: (t) => t.note },
    { name: "As of", class: "when", of: (t) => t.as_of || minute(t.created_at) },
    { name: "Positions", of: (t) => Object.entries(t.positions).map(([source, seq]) => `${source} ${seq}`).join(", ") },
  ], lake.tags);
}

const missing = (what) => [h("h1", {}, "Not here"), h("p", {}, `There is no ${what} in this catalogue. `, h("a", { href: "#/" }, "All tables and models"))];
