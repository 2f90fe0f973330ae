// Elements. Whatever text comes in becomes a text node: no markup is ever made from data.

// Characters that steer the direction of what follows, or have no shape, are shown by their number: a name
// must not look like another one. Line breaks and tabs may stay.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;
const plain = (text) => text.replace(HIDDEN, (c) => `⟨U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (typeof child === "object" ? child : plain(String(child)))));
  return element;
}

const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const code = (text) => h("code", {}, text);

// `code` between backticks is the only mark-up that descriptions have.
const inline = (text) => String(text).split(/`([^`\n]+)`/).map((piece, n) => (n % 2 ? code(piece) : piece));
const prose = (text) => h("p", { class: "prose" }, inline(text));

const shortened = (text, most) => (text.length <= most ? text : `${text.slice(0, Math.ceil(most / 2))}…${text.slice(-Math.floor(most / 2) + 1)}`);

const many = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;
const number = (n) => n.toLocaleString("en-US");

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let n = bytes;
  while (n >= 1000 && units.length > 1) {
    n /= 1000;
    units.shift();
  }
  return `${units[0] === "B" ? n : n.toFixed(1)} ${units[0]}`;
}

// A table. `columns`: {name, of(row), class}; a column whose cells are all empty is left out, but the first, or where `whole`.
// On a narrow screen each row becomes a block.
function grid(caption, wanted, rows, attributes = {}) {
  const cells = rows.map((row) => new Map(wanted.map((c) => [c, c.of(row)])));
  const columns = wanted.filter((c, n) => !n || attributes.whole || cells.some((of) => !isEmpty(of.get(c))));
  const head = h("tr", {}, columns.map((c) => h("th", { scope: "col", class: c.class }, c.name)));
  const body = rows.map((row, at) =>
    h("tr", attributes.row ? attributes.row(row) : {}, columns.map((c, n) => {
      const cell = cells[at].get(c);
      const empty = isEmpty(cell);
      const own = { class: [c.class, empty ? "empty" : ""].join(" ").trim() || null, "data-label": n && c.name ? c.name : null };
      return h(n ? "td" : "th", n ? own : { ...own, scope: "row" }, empty ? [] : cell);
    })));
  return h("div", { class: `grid ${attributes.class || ""}` },
    h("table", {}, h("caption", { class: "unseen" }, caption), h("thead", {}, head), h("tbody", {}, body)));
}

const isEmpty = (cell) => cell === null || cell === undefined || cell === "" || (Array.isArray(cell) && cell.every(isEmpty));

const section = (title, ...children) => h("section", {}, h("h2", {}, title), children);
const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
