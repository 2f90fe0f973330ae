// SQL and Python as people like to read them: a few colours, and the tables in it as links.

const WORDS = {
  sql: new Set(("all and any anti as asc at asof between by case cast cross current cube delete desc describe distinct else end escape " +
    "except exclude exists extract false fetch filter first following for from full group grouping having if ilike in inner insert " +
    "intersect interval into is join last lateral left like limit natural not null nulls offset on or order outer over partition pivot " +
    "positional preceding qualify range recursive replace respect right rollup row rows sample select semi sets similar some struct " +
    "summarize table tablesample then to trailing true try_cast unbounded union unnest unpivot using values when where window with within").split(" ")),
  python: new Set(("False None True and as assert async await break class continue def del elif else except finally for from global if " +
    "import in is lambda nonlocal not or pass raise return try while with yield").split(" ")),
};
const TOKENS = {
  sql: /(--[^\n]*|\/\*[^]*?(?:\*\/|$))|('(?:[^']|'')*(?:'|$)|\$\$[^]*?(?:\$\$|$))|"(?:[^"]|"")*(?:"|$)|(\d[\d_]*(?:\.\d+)?(?:e[+-]?\d+)?)|([A-Za-z_]\w*)/gi,
  python: /(#[^\n]*)|("""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:[^"\\\n]|\\.)*(?:"|$)|'(?:[^'\\\n]|\\.)*(?:'|$))|(?!)|(\d[\d_]*(?:\.\d+)?(?:e[+-]?\d+)?)|([A-Za-z_]\w*)/gi,
};

function coloured(text, language) {
  const out = [];
  let from = 0;
  for (const match of text.matchAll(TOKENS[language])) {
    const [token, comment, string, digits, word] = match;
    const known = word && WORDS[language].has(language === "sql" ? word.toLowerCase() : word);
    const kind = comment ? "comment" : string ? "string" : digits ? "number" : known ? "word" : null;
    if (!kind) continue;
    out.push(text.slice(from, match.index), h("span", { class: `sql-${kind}` }, token));
    from = match.index + token.length;
  }
  return [...out, text.slice(from)];
}

function modelText(model) {
  const language = model.language === "python" ? "python" : "sql";
  const points = Array.from(model.sql); // the places of references count characters, not UTF-16 units
  const places = language === "sql" ? model.references : [];
  const out = [];
  let from = 0;
  for (const [table, start, end] of places) {
    if (start < from || end <= start || end > points.length || !tables.has(table)) continue;
    out.push(coloured(points.slice(from, start).join(""), language));
    out.push(h("a", { href: toTable(table) }, points.slice(start, end).join("")));
    from = end;
  }
  out.push(coloured(points.slice(from).join(""), language));
  return h("pre", { class: "sql", tabindex: 0, role: "region", "aria-label": `The text of ${model.name}` }, h("code", {}, out));
}
