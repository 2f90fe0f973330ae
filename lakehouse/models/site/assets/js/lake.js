// The catalogue, and what follows from it: who reads whom, table by table and column by column.

const lake = JSON.parse(document.getElementById("catalogue").textContent);
const tables = new Map(lake.tables.map((table) => [table.name, table]));
const sources = new Map(lake.sources.map((source) => [source.name, source]));

const KINDS = {
  source: "table", dropped: "built once, no model any more", view: "view", table: "table model",
  incremental: "incremental model", other: "not in this lake", about: "about the lake",
};
const isModel = (table) => ["view", "table", "incremental"].includes(table.kind);
const sourceOf = (name) => name.split(".", 1)[0];
const tableOf = (name) => name.slice(sourceOf(name).length + 1);
const kindOf = (name) => (tables.get(name) || { kind: sourceOf(name) === "lakehouse" ? "about" : "other" }).kind;

const reads = (name) => ((tables.get(name) || {}).reads || []).map((read) => read.name);
const readBy = (() => {
  const found = new Map();
  for (const table of lake.tables) {
    for (const name of reads(table.name)) {
      if (!found.has(name)) found.set(name, []);
      found.get(name).push(table.name);
    }
  }
  return (name) => found.get(name) || [];
})();

// `source.table.column` as [table, column]: only the column may hold dots.
function columnOf(origin) {
  const table = origin.split(".", 2).join(".");
  return [table, origin.slice(table.length + 1)];
}

const usedBy = (() => {
  let found = null;
  return (table, column) => {
    if (!found) {
      found = new Map();
      for (const model of lake.tables) {
        for (const to of model.columns) {
          for (const origin of to.from || []) {
            if (!found.has(origin)) found.set(origin, []);
            found.get(origin).push(`${model.name}.${to.name}`);
          }
        }
      }
    }
    return found.get(`${table}.${column}`) || [];
  };
})();

// All that a table comes from (`next` = reads) or goes into (`readBy`), at most so many steps away.
function reach(name, next, steps = Infinity) {
  const found = new Set();
  let edge = [name];
  for (let step = 0; step < steps && edge.length; step += 1) {
    edge = [...new Set(edge.flatMap(next))].filter((other) => other !== name && !found.has(other));
    edge.forEach((other) => found.add(other));
  }
  return found;
}

const keyOf = (table) => new Set(table.key || []);
