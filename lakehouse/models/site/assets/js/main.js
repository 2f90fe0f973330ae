// Which page is shown: the address after `#`, and nothing else, says so.

const TITLE = document.title;
const main = document.getElementById("main");
const places = new Map(); // where each page was scrolled to, for going back
let followed = false;
let shown = null;

function parts(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const decoded = path.split("/").filter(Boolean).map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  return [decoded, new URLSearchParams(query)];
}

function pageOf([[what, name, column], query]) {
  if (what === "t" && name) return { title: name, draw: () => tablePage(name), table: name, column };
  if (what === "s" && name) return { title: name, draw: () => sourcePage(name) };
  if (what === "graph") return { title: name ? `Lineage of ${name}` : "Lineage", draw: () => graphPage(name, query), graph: true };
  return what ? { title: "Not here", draw: () => missing(`page ${what}`) } : { title: null, draw: startPage };
}

function show() {
  if (shown !== null) places.set(shown, scrollY);
  const page = pageOf(parts(location.hash));
  const first = shown === null;
  shown = location.hash;
  document.title = page.title ? `${page.title} · ${TITLE}` : TITLE;
  document.body.classList.toggle("graphic", Boolean(page.graph));
  main.replaceChildren(...[page.draw()].flat(Infinity).filter(Boolean));
  here(page.table);
  fold(false);
  if (!first) main.focus({ preventScroll: true });
  const column = page.column === undefined ? null : document.getElementById(columnId(page.column));
  if (column) {
    column.classList.add("meant");
    column.scrollIntoView({ block: "center" });
  } else {
    scrollTo(0, followed ? 0 : places.get(shown) || 0);
  }
  followed = false;
}

function tree() {
  const one = (source) => h("details", { open: lake.tables.length <= 80 || sources.size === 1, "data-source": source.name },
    h("summary", {}, h("span", { class: "name" }, source.name), h("small", {}, source.problem ? "!" : number(source.tables.length))),
    h("ul", {}, source.tables.map((name) => h("li", {}, h("a", { href: toTable(name), "data-name": name }, sign(kindOf(name)), tableOf(name))))));
  document.getElementById("tree").replaceChildren(h("a", { class: "start", href: "#/" }, TITLE), ...lake.sources.map(one));
}

// Where one is, in the list on the left.
function here(name) {
  for (const link of document.querySelectorAll('#tree a[aria-current="page"]')) link.removeAttribute("aria-current");
  const link = name && document.querySelector(`#tree a[data-name="${CSS.escape(name)}"]`);
  if (!link) return;
  link.setAttribute("aria-current", "page");
  link.closest("details").open = true;
  const list = document.getElementById("tree");
  const off = link.getBoundingClientRect().top - list.getBoundingClientRect().top;
  if (off < 0 || off > list.clientHeight - 30) list.scrollTop += off - list.clientHeight / 3;
}

function fold(open) {
  document.body.classList.toggle("menu", open);
  document.getElementById("menu").setAttribute("aria-expanded", String(open));
}

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#/"]');
  if (!link) return;
  followed = link.getAttribute("href") !== location.hash;
  fold(false);
});
document.getElementById("menu").addEventListener("click", () => fold(!document.body.classList.contains("menu")));
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
addEventListener("hashchange", show);
history.scrollRestoration = "manual";
tree();
searchBox();
show();
