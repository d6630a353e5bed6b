"""The page of a comparison in a browser: accessible, offline, whole on a phone and on paper."""

from __future__ import annotations

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no Chromium here (Debian: chromium)", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def file(compared, tmp_path_factory) -> str:
    return compared.save(tmp_path_factory.mktemp("page") / "compare.html").as_uri()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_it_is_accessible_offline_and_fits(browser, file, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(file)
    for fold in page.locator("summary").all():
        fold.click()
    assert asked == [file] and said == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.close()


def test_maps_stand_beside_each_other_and_under_each_other_on_a_phone(browser, file):
    def places(width: int) -> list[dict[str, float]]:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(file)
        found = [svg.bounding_box() for svg in page.locator("#map-kl-B figure svg").all()]
        page.close()
        return found

    wide, narrow = places(1280), places(390)
    assert len({round(box["y"]) for box in wide}) == 1 and len({box["x"] for box in wide}) == 3
    assert len({round(box["x"]) for box in narrow}) == 1 and narrow[0]["width"] > 300


def test_paper_has_every_row(browser, file, compared):
    page = browser.new_page()
    page.goto(file)
    page.emulate_media(media="print")
    rows = page.locator("#map-kl-B tbody tr")
    cells = len(compared.cells) // len(compared.outcomes)
    assert rows.count() == cells
    assert rows.last.bounding_box()["height"] > 5  # laid out, though the fold is closed
    page.close()
