"""The pages of a pruning, of a calibrated file and of a calibration audit: whole on every width and on paper."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from made import tiny_run
from made.predictions import predictions
from made.pruning_curve import curve_of

from moeaudit.calibration import Predictions, calibration_scores, reliability

ATTACK = "</script><img src=x onerror=alert(1)>"
LONG = "a ranking with a name that is longer than any phone is wide, of several words"
NUMBER = {"pruning": "perplexity", "file": "value", "audit": "gap"}


def pruning() -> str:
    from moeaudit.report.pruning.page import render_pruning

    losses = {"reap": 0.02, "router_norm": 0.19, ATTACK: 0.2, LONG: 0.31}
    return render_pruning(curve_of(losses, keep=(0.875, 0.75, 0.5, 0.25)))


def file() -> str:
    from moeaudit.calibration.scores.scores import MEANING
    from moeaudit.report.pages.calibration import render_calibration

    groups = np.array(["law", "=1+1", ATTACK, LONG])
    plain = predictions(600, power=1.6)
    every = Predictions.of(
        plain.confidence, plain.correct, groups[np.arange(600) % 4], plain.document.astype(str)
    )
    record = {"title": "answers.csv", "level": 0.95, "draws": 20, "remarks": ["A remark."]}
    scores, bins = calibration_scores(every, draws=20), reliability(every, draws=20)
    return render_calibration(scores, bins, MEANING, {**record, "provenance": {"file": ATTACK}})


def audit() -> str:
    from moeaudit.causal.operators.without import Without

    import moeaudit as ma
    from moeaudit.report.pages.calibration_audit import render_calibration_audit
    from moeaudit.text import Corpus, Document

    def corpus(first: int, domains: tuple[str, ...]) -> Corpus:
        lines = [f"{k}. {tiny_run.SENTENCES[k % 6]}" for k in range(first, first + 12)]
        return Corpus([Document(t, domains[i % len(domains)]) for i, t in enumerate(lines)])

    sides = (corpus(0, ("prose", ATTACK)), corpus(100, ("verse",)))
    edits = {LONG: Without({0: [0, 3]})}
    return render_calibration_audit(
        ma.calibration_audit(
            ma.load(FOLDER["model"]), *sides, edits, fit=corpus(200, ("prose",)), draws=20
        )
    )


FOLDER: dict[str, Path] = {}


@pytest.fixture(scope="module", params=[pruning, file, audit], ids=lambda make: make.__name__)
def page_file(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param.__name__)
    if request.param is audit:
        FOLDER["model"] = tiny_run.save(folder / "model")
    path = folder / "page.html"
    path.write_text(request.param(), encoding="utf-8")
    return path


@pytest.fixture
def kind(request) -> str:
    return request.node.callspec.params["page_file"].__name__


# Every rule in the light; in the dark colours alone differ, and on a phone all but colours.
RULES = {
    "light": {},
    "dark": {"runOnly": ["color-contrast"]},
    "phone": {"rules": {"color-contrast": {"enabled": False}}},
}
SIZES = """() => [...document.querySelectorAll('figure svg')].filter(s => s.checkVisibility()).map(s => {
  const box = s.getBoundingClientRect(), view = s.viewBox.baseVal;
  return [box.right, box.width / view.width]; })"""
OPEN = "for (const fold of document.querySelectorAll('details')) fold.open = true"


@pytest.mark.parametrize("width", [390, 640, 720, 1280])
def test_nothing_is_wider_than_the_screen_and_letters_stay_legible(reader_of, kind, width):
    page = reader_of((width, 900)).go().page
    page.evaluate(OPEN)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert not page.locator("figure.scroll").count()
    sizes = page.evaluate(SIZES)
    assert len(sizes) >= 4
    assert all(right <= width for right, _ in sizes)
    assert min(scale for _, scale in sizes) > 0.8  # letters of 10 units are 8 pixels at least
    assert max(scale for _, scale in sizes) < 1.6


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_axe_finds_nothing(reader_of, kind, look):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    size = (390, 844) if look == "phone" else (1280, 900)
    reader = reader_of(size, color_scheme="dark" if look == "dark" else "light").go()
    reader.page.evaluate(OPEN)
    reader.shot(f"{kind}-{look}")
    options = {**RULES[look], "resultTypes": ["violations"]}
    found = axe.Axe().run(reader.page, options=options).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found] == []


def test_tables_sort_filter_and_download(reader_of, kind):
    page = reader_of().go().page
    page.evaluate(OPEN)
    box = page.locator(
        ".tools:has(input) + .scroll", has=page.locator(f"th:has-text('{NUMBER[kind]}')")
    ).first
    bar = box.locator("xpath=preceding-sibling::div[1]")
    heads = box.locator("thead th").all_inner_texts()
    at = next(i for i, head in enumerate(heads) if head.startswith(NUMBER[kind]))
    rows = box.locator("tbody tr")
    every = rows.count()
    box.get_by_role("button", name=NUMBER[kind]).first.click()

    def saved() -> list[list[str]]:
        with page.expect_download() as waiting:
            bar.get_by_role("button", name="Download").click()
        return list(csv.reader(Path(waiting.value.path()).read_text("utf-8-sig").splitlines()))

    head, *body = saved()
    name = head.index(heads[at])
    values = [float(row[name]) for row in body if row[name]]
    assert len(body) == every and len(values) > 3 and values == sorted(values)
    assert max(len(row[name]) for row in body) > 6  # in full, not as written
    assert ("low" in head) == (kind != "pruning" or "loss added" in " ".join(head))
    first = rows.first.locator("> *").first.inner_text()
    bar.locator("input").fill(first)
    left = box.locator("tbody tr:visible").count()
    assert 0 < left < every and len(saved()) == left + 1


def test_paper_holds_every_row_even_filtered(reader_of, kind):
    page = reader_of((700, 900)).go().page
    total = page.locator("tbody tr").count()
    assert total > 20
    page.evaluate(OPEN)
    for field in page.locator(".tools input").all():
        field.fill("no such row")
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = false")
    page.emulate_media(media="print")
    heights = page.evaluate(
        "[...document.querySelectorAll('tbody tr')].map(r => r.getBoundingClientRect().height)"
    )
    assert len(heights) == total and min(heights) > 5
    wide = page.evaluate(
        "[...document.querySelectorAll('table, svg')].filter("
        "part => part.getBoundingClientRect().right > innerWidth + 1).length"
    )
    assert wide == 0


def test_without_scripts_tables_and_drawings_are_there(reader_of, kind):
    page = reader_of(java_script_enabled=False).go().page
    assert page.locator("figure svg").first.is_visible() and page.locator("h1").is_visible()
    assert page.locator("details:not([open]) tbody tr, tbody tr").count() > 20
    assert not page.locator("button").count()
