"""The page in Debian's Chromium: prints every row, reflows on a phone, explores, slides, sorts and downloads."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def file(page, tmp_path_factory) -> str:
    path: Path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, file):
    """`opened(width=, dark=, scripts=)`: the page, and what it said or asked for that it should not have."""
    contexts = []

    def make(width=1280, dark=False, scripts=True):
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            accept_downloads=True,
        )
        contexts.append(context)
        context.set_default_timeout(90_000)  # machines are crowded
        tab, wrong = context.new_page(), []
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on(
            "request",
            lambda r: (
                None if r.url.startswith(("file:", "blob:", "data:")) else wrong.append(r.url)
            ),
        )
        tab.goto(file)
        return tab, wrong

    yield make
    for context in contexts:
        context.close()


ROWS = """() => ({
  hidden: [...document.querySelectorAll('tr')].filter(r => r.getBoundingClientRect().height === 0).length,
  rows: document.querySelectorAll('tr').length,
  cut: [...document.querySelectorAll('.scroll')].filter(
    s => s.scrollHeight > s.clientHeight + 2 || getComputedStyle(s).overflowY !== 'visible').length,
  wide: [...document.querySelectorAll('table, svg')].filter(
    t => t.getBoundingClientRect().right > innerWidth + 1).length,
  paper: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.body).color})"""


@pytest.mark.parametrize("dark", [False, True])
def test_paper_holds_every_row_and_is_light(opened, dark):
    tab, _ = opened(width=700, dark=dark)  # A4 between its margins
    tab.emulate_media(media="print", color_scheme="dark" if dark else "light")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    found = tab.evaluate(ROWS)
    assert found["rows"] > 200
    assert (found["hidden"], found["cut"], found["wide"]) == (0, 0, 0)
    assert (found["paper"], found["ink"]) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)")


def test_paper_holds_filtered_rows_and_the_drawing_of_an_explored_figure(opened):
    tab, _ = opened()
    tab.locator("#maps details").evaluate("d => { d.open = true }")
    tab.locator("#maps .tools input").fill("no such row")
    assert "0 of" in tab.locator("#maps .said").inner_text()
    tab.locator("button[data-plot=depth]").click()
    tab.wait_for_selector("#live-depth .main-svg", timeout=60_000)
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate(ROWS)["hidden"] == 0
    assert tab.locator("#depth figure").is_visible()
    assert not tab.locator("#live-depth").is_visible()


def test_without_scripts_all_rows_are_printed_all_the_same(chromium, file):
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file)
    made = tab.pdf(format="A4")
    folded = re.sub(r"<details", "<details open", Path(file.removeprefix("file://")).read_text())
    tab.set_content(folded)
    opened_ = tab.pdf(format="A4")
    pages = [len(re.findall(rb"/Type\s*/Page\b", each)) for each in (made, opened_)]
    context.close()
    assert pages[0] > 5 and abs(pages[0] - pages[1]) <= 1, pages


def test_on_a_phone_figures_reflow_and_only_tables_scroll(opened):
    tab, wrong = opened(width=390)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    sizes = tab.evaluate(
        """() => [...document.querySelectorAll('figure svg')].filter(s => s.checkVisibility()).map(s => {
          const box = s.getBoundingClientRect(), view = s.viewBox.baseVal;
          return [box.right, box.width / view.width]; })"""
    )
    assert len(sizes) > 10
    assert all(right <= 391 for right, _ in sizes)
    assert min(scale for _, scale in sizes) > 0.8  # so letters of 10 units are 8 pixels at least
    assert not tab.locator("figure.scroll").count()
    assert wrong == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_figure_is_explored_without_a_complaint(opened, width, dark):
    tab, wrong = opened(width=width, dark=dark)
    for key in ("maps", "contrasts", "mass", "bounds", "power", "associations", "depth", "spread"):
        tab.locator(f"button[data-plot={key}]").click()
        tab.wait_for_selector(f"#live-{key} .main-svg", timeout=60_000)
        box = tab.locator(f"#live-{key}").bounding_box()
        assert box is not None and box["x"] + box["width"] <= width and box["height"] > 250, key
    assert wrong == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_axe_finds_nothing(opened, width, dark):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    tab, _ = opened(width=width, dark=dark)
    tab.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    found = axe.Axe().run(tab).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found] == []


def test_terms_explain_themselves_on_hover_and_on_focus(opened):
    tab, _ = opened()
    term = tab.locator(".term").first
    gloss = term.locator(".gloss")
    assert not gloss.is_visible()
    term.hover()
    assert gloss.is_visible()
    tab.mouse.move(5, 5)
    term.focus()
    assert gloss.is_visible()


def test_tables_sort_filter_and_download_in_full(opened, run):
    tab, wrong = opened()
    tab.locator("#maps details").evaluate("d => { d.open = true }")
    bar = tab.locator("#maps .tools")
    with tab.expect_download() as saved:
        bar.get_by_role("button", name="Download").click()
    text = Path(saved.value.path()).read_text("utf-8-sig")
    head, *rows = csv.reader(io.StringIO(text))
    assert head[:4] == ["layer, expert", "mean harm (nats)", "low", "high"]
    effects = run.effects
    mine = effects[(effects["layer"] == 5) & (effects["expert"] == 0)]
    harm = {row[0]: row[1] for row in rows}
    assert float(harm["5, 0"]) == pytest.approx(float(mine["delta_nll"].mean()), rel=1e-6)
    known = [float(value) for value in (row[1] for row in rows) if value]
    assert known == sorted(known)  # least harm first, as it stands
    assert harm["2, 5"] == ""  # never active: a gap, not a zero
    button = tab.locator("#maps th button", has_text="mean harm")
    button.click()
    button.click()
    assert tab.locator("#maps th[aria-sort]").get_attribute("aria-sort") == "descending"
    first = tab.locator("#maps tbody tr").first.inner_text()
    assert first.startswith(next(name for name, v in harm.items() if v and float(v) == max(known)))
    bar.locator("input").fill("5, 0")
    assert tab.locator("#maps tbody tr:visible").count() == 1
    assert wrong == []


def test_words_that_a_spreadsheet_would_run_are_quoted(opened):
    tab, _ = opened()
    tab.locator("#data tbody th").first.evaluate("cell => { cell.textContent = '=1+1' }")
    with tab.expect_download() as saved:
        tab.locator("#data .tools").first.get_by_role("button", name="Download").click()
    rows = list(csv.reader(Path(saved.value.path()).read_text("utf-8-sig").splitlines()))
    assert rows[1][0] == "'=1+1"


def test_sliding_the_size_of_interest_moves_counts_and_tables(opened, page, tmp_path):
    source = re.search(r'id="data-bounds">(.*?)</script>', page, re.DOTALL)
    assert source
    data = json.loads(source[1])
    unit = next(each["unit"] for each in data["grid"] if each["declared"])
    last = [each for each in data["grid"] if each["unit"] == unit][-1]
    # so little text is undecided under every bound: as if the largest had settled the contrasts in turn
    n = len(data["verdicts"])
    last["cells"] = "".join(chr(97 + i % n) for i in range(len(last["cells"])))
    settled = tmp_path / "settled.html"
    settled.write_text(page.replace(source[1], json.dumps(data)), encoding="utf-8")
    tab, wrong = opened()
    tab.goto(settled.as_uri())
    verdicts = tab.locator('#contrasts td[data-of="verdict"]')
    told = tab.locator('#contrasts td[data-of="told"]')
    before, short = verdicts.all_text_contents(), told.all_text_contents()
    tab.locator("#slide-size").focus()
    tab.keyboard.press("End")
    said = tab.locator("#slide-said").inner_text()
    assert said.startswith(f"{last['words']} (exploratory, not declared). Harm: ")
    after = verdicts.all_text_contents()
    assert after == [data["verdicts"][ord(letter) - 97] for letter in last["cells"]]
    assert after != before
    metric = [i for i, row in enumerate(data["rows"]) if row[1] == 0 and row[2]]
    first = data["verdicts"][0]
    assert f"{sum(after[i] == first for i in metric)} {first}" in said
    rows = [i for i, row in enumerate(data["rows"]) if row[:2] == [0, 0]]
    counts = [int(x) for x in re.findall(r"(\d+) ", told.all_text_contents()[0])]
    assert sum(counts) == len(rows)
    assert tab.locator("#contrasts .asif").is_visible()
    tab.get_by_role("button", name="Back to the declared size").click()
    assert verdicts.all_text_contents() == before and told.all_text_contents() == short
    assert not tab.locator("#contrasts .asif").is_visible()
    assert wrong == []
