"""The catalogue as people use it: in a real browser, from a file, with the network closed."""

import http.server
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from catalogued import ARROWS, BOXES, HOSTILE, definition, make
from command import run
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

from lakehouse import Lake
from lakehouse.core.definition import to_json

DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here; install one: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a catalogue."""
    folder = tmp_path_factory.mktemp("catalogue")
    make(Lake.create(folder / "lake"))
    done = run(
        "docs", "build", "--lake", folder / "lake", "-o", folder / "site", "--title", "The shop's lake"
    ).ok()
    assert "5 tables" not in done.out
    assert "4 tables, 6 models" in done.out
    return (folder / "site" / "index.html").as_uri()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens an address; at the end nothing may have been complained of, and nothing asked for."""
    pages, said, asked = [], [], []

    def to(address: str, *, size: Any = DESKTOP, colours: Any = "light") -> Page:
        page = browser.new_page(viewport=size, color_scheme=colours)
        page.set_default_timeout(20_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("main h1", state="attached")
        pages.append(page)
        return page

    yield to
    assert all(page.evaluate("window.hacked") is None for page in pages)
    for page in pages:
        page.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def go(page: Page, address: str) -> None:
    """Go to an address within the page, and wait until it is shown."""
    page.evaluate(
        """to => to === location.hash ? null : new Promise(shown => {
          addEventListener('hashchange', () => setTimeout(shown), { once: true }); location.hash = to; })""",
        address,
    )


def heading(page: Page) -> str:
    return page.inner_text("main h1")


# --- Getting around ---------------------------------------------------------------------------------


def test_every_link_leads_to_a_page(site: str, opened: Callable[..., Page]) -> None:
    page = opened(site)
    seen, todo = set(), ["#/"]
    while todo:
        address = todo.pop()
        seen.add(address)
        go(page, address)
        assert heading(page) not in {"Not here", ""}, address
        hrefs = page.eval_on_selector_all("a[href]", "links => links.map(a => a.getAttribute('href'))")
        assert all(href.startswith("#") for href in hrefs)
        todo += {h for h in hrefs if h.startswith("#/")} - seen - set(todo)
    wanted = {"#/graph", "#/t/models.daily", "#/t/shop.products", "#/s/shop", "#/t/shop.products/price"}
    assert wanted <= seen
    go(page, "#/t/shop.nothing")
    assert heading(page) == "Not here"


def test_the_start_page_tells_of_all(site: str, opened: Callable[..., Page]) -> None:
    page = opened(site)
    assert heading(page) == page.title() == "The shop's lake"
    assert "4 tables and 6 models from 3 sources; 14 loads" in page.inner_text("main")
    row = page.locator("main tr", has=page.get_by_role("link", name="products", exact=True))
    assert row.locator("td.n").all_inner_texts() == ["3", "31"]
    assert row.locator("svg.spark path").bounding_box()["width"] > 40
    row.get_by_role("link").click()
    expect(page.locator("main h1")).to_have_text("shop.products")
    page.go_back()
    expect(page.locator("main h1")).to_have_text("The shop's lake")


def test_the_page_of_a_model_tells_what_it_says(site: str, opened: Callable[..., Page]) -> None:
    page = opened(f"{site}#/t/models.daily")
    text = page.inner_text("main")
    for words in ("What every product cost, in euro.", "one product on one day", "the median of the day",
                  "price is at least 0", "load 3", "newer loads", "ab12", "models/daily.sql"):  # fmt: skip
        assert words in text, words
    assert page.inner_text(".sql") == "select *\nfrom shop.products -- all of it"
    assert page.locator(".sql .sql-word").all_inner_texts() == ["select", "from"]
    page.get_by_role("region", name="The text of").get_by_role("link", name="shop.products").click()
    expect(page.locator("main h1")).to_have_text("shop.products")
    assert "models.daily.price" in page.inner_text("tr[id='column:price']")
    assert page.locator("tr.gone").all_inner_texts() == [
        "early\tint64\tload 1 · 2026-09-01\tload 6 · 2026-09-06"
    ]
    assert "last in load 5" in page.inner_text("main")


def test_row_counts_are_drawn_and_read_out(site: str, opened: Callable[..., Page]) -> None:
    page = opened(f"{site}#/t/shop.products")
    chart = page.locator(".chart svg")
    assert (
        chart.get_attribute("aria-label") == "Rows of shop.products: 20 at first, 31 now; least 20, most 31"
    )
    line = page.locator(".chart .line").bounding_box()
    assert line["width"] > 300
    assert line["height"] > 50
    place = chart.bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + 60)
    assert re.fullmatch(
        r"2[56] · load [67], 2026-09-0[67] 06:13", page.locator(".chart .told").text_content() or ""
    )


def test_a_deep_link_shows_the_column(site: str, opened: Callable[..., Page]) -> None:
    page = opened(f"{site}#/t/shop.products/late", size={"width": 900, "height": 300})
    row = page.locator("tr.meant")
    assert row.inner_text().startswith("late")
    expect(row).to_be_in_viewport()


# --- Search -----------------------------------------------------------------------------------------


def test_search_is_a_matter_of_keys(site: str, opened: Callable[..., Page]) -> None:
    page = opened(site)
    field = page.get_by_role("combobox")
    page.keyboard.press("/")
    expect(field).to_be_focused()
    page.keyboard.type("daily")
    options = page.locator("#found [role=option]")
    assert options.first.inner_text().startswith("models.daily")
    assert field.get_attribute("aria-activedescendant") == options.first.get_attribute("id")
    page.keyboard.press("Enter")
    expect(page.locator("main h1")).to_have_text("models.daily")
    page.keyboard.press("/")
    page.keyboard.type("median of")  # only a description has it
    assert options.count() == 1
    page.keyboard.press("Enter")
    expect(page.locator("tr.meant")).to_contain_text("price")
    page.keyboard.press("/")
    page.keyboard.type("shop.products")  # not its columns, but one that is asked for with it
    assert [text.split("\n")[0] for text in options.all_inner_texts()] == ["shop.products"]
    page.keyboard.type(" late")
    assert [text.split("\n")[0] for text in options.all_inner_texts()] == ["late"]
    field.fill("pr")
    chosen = options.nth(1).get_attribute("id")
    page.keyboard.press("ArrowDown")
    assert field.get_attribute("aria-activedescendant") == chosen
    page.keyboard.press("Escape")
    expect(page.locator("#found")).to_be_hidden()
    page.keyboard.type("there is no such thing")
    assert page.inner_text("#found") == "Nothing found"


# --- Lineage ----------------------------------------------------------------------------------------


def boxes(page: Page) -> dict[str, Any]:
    drawn = page.locator(".canvas .box").all()
    return {str(box.get_attribute("data-name")): box.bounding_box() for box in drawn}


def test_the_graph_is_drawn_from_left_to_right(site: str, opened: Callable[..., Page]) -> None:
    page = opened(f"{site}#/graph")
    found = boxes(page)
    assert set(found) == BOXES
    assert all(box["width"] > 30 and box["height"] > 10 for box in found.values())
    frame = page.locator(".canvas").bounding_box()
    for box in found.values():
        assert frame["x"] <= box["x"] <= box["x"] + box["width"] <= frame["x"] + frame["width"]
        assert frame["y"] <= box["y"] <= box["y"] + box["height"] <= frame["y"] + frame["height"]
    lines = page.eval_on_selector_all(
        ".canvas .edge", "es => es.map(e => [e.dataset.from, e.dataset.to, e.getTotalLength()])"
    )
    assert {(start, end) for start, end, _ in lines} == ARROWS
    assert all(length > 10 for *_, length in lines)
    assert all(found[a]["x"] + found[a]["width"] < found[b]["x"] for a, b in ARROWS)
    labels = page.locator(".canvas .box text").all_text_contents()
    assert sorted(labels) == sorted(name.removeprefix("models.") for name in BOXES)
    assert "1 table that no model reads is not drawn" in page.inner_text("main")
    page.locator('.canvas [data-name="models.hot"]').click()
    expect(page.locator("main h1")).to_have_text("models.hot")


def test_no_two_boxes_overlap(site: str, opened: Callable[..., Page]) -> None:
    placed = list(boxes(opened(f"{site}#/graph")).values())
    for n, one in enumerate(placed):
        for other in placed[n + 1 :]:
            beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
            below = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
            assert beside or below


def test_the_graph_of_one_table_is_what_it_comes_from_and_goes_into(
    site: str, opened: Callable[..., Page]
) -> None:
    page = opened(f"{site}#/graph/models.daily")
    assert set(boxes(page)) == {"shop.products", "models.daily", "models.changes", "models.both"}
    page.get_by_label("Downstream").select_option("1")
    expect(page.locator(".canvas .box")).to_have_count(3)
    page.get_by_label("Upstream").select_option("0")
    expect(page.locator(".canvas .box")).to_have_count(2)
    page.get_by_label("Focus on").fill("models.hot")
    page.keyboard.press("Enter")
    expect(page.locator(".canvas .box.here")).to_have_attribute("data-name", "models.hot")


def test_the_graph_moves_and_zooms(site: str, opened: Callable[..., Page]) -> None:
    page = opened(f"{site}#/graph")
    before = boxes(page)["models.hot"]
    page.mouse.move(700, 200)
    page.mouse.wheel(0, -300)
    page.wait_for_function("width => document.querySelector('[data-name=\"models.hot\"]').getBoundingClientRect().width > width * 1.2", arg=before["width"])  # fmt: skip
    page.get_by_role("button", name="Show all").click()
    assert boxes(page)["models.hot"]["x"] == pytest.approx(before["x"], abs=1)
    page.mouse.move(500, 700)
    page.mouse.down()
    page.mouse.move(540, 730, steps=4)
    page.mouse.up()
    after = boxes(page)["models.hot"]
    assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx((40, 30), abs=1)
    page.locator(".canvas svg").focus()
    page.keyboard.press("ArrowRight")
    assert boxes(page)["models.hot"]["x"] == pytest.approx(after["x"] - 60, abs=1)
    assert page.url.endswith("#/graph")


def test_a_box_lights_up_all_that_it_comes_from_and_goes_into(site: str, opened: Callable[..., Page]) -> None:
    page = opened(f"{site}#/graph")
    page.locator('.canvas [data-name="models.changes"]').hover()
    lit = page.eval_on_selector_all(".canvas .box.on", "all => all.map(b => b.dataset.name)")
    assert set(lit) == {"shop.products", "models.daily", "models.changes", "models.both"}
    assert page.inner_text(".tip") == "models.changes · view"


# --- Whoever reads it, and whoever wrote the names --------------------------------------------------------


def test_hostile_names_are_text(site: str, opened: Callable[..., Page]) -> None:
    page = opened(f"{site}#/t/models.report")
    assert page.inner_text("main .prose") == HOSTILE
    assert [c.strip() for c in page.locator("td.who code, th.who code").all_inner_texts()][:2] == [
        HOSTILE,
        "safe⟨U+202E⟩gpj.exe",
    ]
    assert page.locator("main img, main script").count() == 0


def test_the_page_cannot_be_made_to_ask_anybody(site: str, browser: Browser) -> None:
    asked: list[str] = []

    class Ear(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ear) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(site)
        at = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(Error, match=r"Content Security Policy|Failed to fetch|Refused"):
            page.evaluate("at => fetch(at + '/fetched')", at)
        with pytest.raises(Error, match="TrustedHTML"):
            page.evaluate("document.body.innerHTML = '<b>x</b>'")
        page.evaluate(
            """at => Promise.all(['img', 'script', 'iframe', 'link'].map(tag => new Promise(done => {
              const e = document.createElement(tag); e.onerror = e.onload = () => done(); setTimeout(done, 400);
              if (tag === 'link') { e.rel = 'stylesheet'; e.href = at + '/' + tag; }
              else if (tag === 'script') { try { e.src = at + '/' + tag; } catch { done(); } }
              else e.src = at + '/' + tag;
              document.head.append(e); })))""",
            at,
        )
        page.close()
        server.shutdown()
    assert asked == []


POOR = """() => { const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
    .map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4); return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  const found = []; const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) { const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || e.closest('svg, script, [aria-hidden=true]')) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05); if (ratio < 4.5) found.push([e.className, e.textContent.slice(0, 40), ratio]); }
  return found; }"""


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_text_has_contrast(site: str, opened: Callable[..., Page], colours: str) -> None:
    page = opened(site, colours=colours)
    for where in ("#/", "#/t/models.daily", "#/t/shop.products", "#/s/shop", "#/graph"):
        go(page, where)
        assert page.evaluate(POOR) == []
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert {int(part) > 127 for part in re.findall(r"\d+", ground)} == {colours == "light"}


def test_a_phone_need_not_scroll_sideways(site: str, opened: Callable[..., Page]) -> None:
    page = opened(site, size=PHONE)
    tree = page.locator("#tree")
    for where in ("#/", "#/t/models.daily", "#/t/models.report", "#/t/shop.products", "#/s/shop", "#/graph"):
        go(page, where)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], where
        expect(tree).to_be_hidden()
        page.get_by_role("button", name="Tables").click()
        expect(tree).to_be_visible()
        tree.get_by_role("link", name="products").click()
        expect(page.locator("main h1")).to_have_text("shop.products")
        expect(tree).to_be_hidden()
    page.get_by_role("button", name="Tables").click()
    tree.get_by_role("link", name="The shop's lake").click()
    expect(page.locator("main h1")).to_have_text("The shop's lake")


def test_landmarks_and_names_are_there(site: str, opened: Callable[..., Page]) -> None:
    page = opened(f"{site}#/graph")
    for role in ("banner", "main", "search"):
        assert page.get_by_role(role).count() == 1, role
    assert page.get_by_role("navigation", name="Tables and models").count() == 1
    link = page.locator('.canvas [data-name="models.hot"]')
    assert (
        link.get_attribute("aria-label")
        == "models.hot, incremental model; reads weather.readings; is read by models.both"
    )
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


# --- Much, little, nothing, broken ----------------------------------------------------------------------


def test_three_hundred_models_are_drawn(tmp_path: Path, opened: Callable[..., Page]) -> None:
    lake = Lake.create(tmp_path / "lake")
    with lake.load("shop") as one:
        one.write("products", [{"x": 1}])
    reads = {
        n: ["shop.products"]
        if n < 10
        else sorted({f"models.m{n * 7 % n}", f"models.m{n // 2}", f"models.m{n - 9}"})
        for n in range(300)
    }
    with lake.load("models") as one:
        one.pipeline = to_json(definition(f"m{n}", "view", its) for n, its in reads.items())
    run("docs", "build", "--lake", tmp_path / "lake", "-o", tmp_path / "site").ok()
    address = (tmp_path / "site" / "index.html").as_uri()
    page = opened(f"{address}#/graph")
    assert page.locator(".canvas .box").count() == 301
    frame = page.locator(".canvas").bounding_box()
    reach = page.locator(".canvas svg > g").bounding_box()
    assert reach["width"] <= frame["width"] + 1
    assert reach["height"] <= frame["height"] + 1
    page.get_by_label("Focus on").fill("m299")
    assert page.locator(".canvas .box.meant").get_attribute("data-name") == "models.m299"
    page.keyboard.press("Enter")
    assert page.locator(".canvas .box").count() == 301  # m299 alone is no name; models.m299 is
    page.get_by_label("Focus on").fill("models.m299")
    page.keyboard.press("Enter")
    expect(page.locator(".canvas .box.here text")).to_be_visible()


def test_an_empty_lake_says_so(tmp_path: Path, opened: Callable[..., Page]) -> None:
    Lake.create(tmp_path / "lake")
    run("docs", "build", "--lake", tmp_path / "lake", "-o", tmp_path / "site").ok()
    page = opened((tmp_path / "site" / "index.html").as_uri())
    assert "Nothing was loaded into this lake yet" in page.inner_text("main")
    page.get_by_role("link", name="Lineage").click()
    expect(page.locator("main")).to_contain_text("There are no models")


def test_a_broken_source_is_told_of(tmp_path: Path, opened: Callable[..., Page]) -> None:
    lake = Lake.create(tmp_path / "lake")
    for source in ("good", "torn"):
        with lake.load(source) as one:
            one.write("t", [{"x": 1}])
    log = next((tmp_path / "lake" / "torn" / "_log").glob("*.jsonl"))
    log.write_bytes(log.read_bytes()[:-9])
    shutil.rmtree(tmp_path / "lake" / "_derived", ignore_errors=True)
    done = run("docs", "build", "--lake", tmp_path / "lake", "-o", tmp_path / "site").ok()
    assert "warning: torn/_log" in done.err
    page = opened((tmp_path / "site" / "index.html").as_uri())
    assert "ends in the middle of a commit" in page.inner_text(".problem")
    assert page.locator("main").get_by_role("link", name="t", exact=True).count() == 1
    page.locator("main").get_by_role("link", name="torn").click()
    expect(page.locator("main")).to_contain_text("This source cannot be read")


# --- The command ------------------------------------------------------------------------------------


def test_a_project_has_its_catalogue_where_git_does_not_look(tmp_path: Path) -> None:
    run("init", tmp_path / "p").ok()
    done = run("docs", "build", cwd=tmp_path / "p" / "models").ok()
    assert done.out.startswith(str(tmp_path / "p" / "docs-site" / "index.html"))
    assert "/docs-site/\n" in (tmp_path / "p" / ".gitignore").read_text()


def test_json_is_the_catalogue_and_writes_nothing(tmp_path: Path) -> None:
    make(Lake.create(tmp_path / "lake"))
    found = run("docs", "build", "--json", "--lake", tmp_path / "lake", cwd=tmp_path).ok().json
    assert {t["name"] for t in found["tables"] if t["kind"] == "view"} == {
        "models.named",
        "models.changes",
        "models.both",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake"]


def test_a_test_that_found_rows_says_how_many(tmp_path: Path) -> None:
    run("init", tmp_path / "p").ok()
    with Lake.open(tmp_path / "p" / "lake").load("shop") as one:
        one.write(
            "products", [{"sku": sku, "price": price} for sku, price in (("a", -1), ("b", -2), ("c", 3))]
        )
    (tmp_path / "p" / "models" / "priced.sql").write_text(
        "-- tests:\n--   - range: {column: price, min: 0, severity: warn}\n--   - not_null: sku\n"
        "select sku, price from shop.products\n"
    )
    run("build", cwd=tmp_path / "p").ok()
    found = run("docs", "build", "--json", cwd=tmp_path / "p").ok().json["tables"][0]
    assert found["reads"] == [{"name": "shop.products"}]
    assert [(t["label"], t.get("failures")) for t in found["tests"]] == [
        ("range(price)", 2),
        ("not_null(sku)", None),
    ]
