"""The page of a comparison: complete without scripts, inert whatever names hold, never over another's page."""

from __future__ import annotations

import html
import re

import pytest
from made import altered

import moeaudit as ma
from moeaudit.errors import RunError
from moeaudit.report.compare.page import render_comparison

HOSTILE = "<script>alert(1)</script>&\"'"


@pytest.fixture(scope="module")
def compare_page(compared) -> str:
    return render_comparison(compared)


def test_the_page_has_the_answer_first_and_every_part(compared, compare_page):
    head, _, rest = compare_page.partition('id="runs"')
    assert compared.sentences[0].rstrip(".") in head and "What follows." in head
    for key in ("whole", "map-delta-nll-B", "depth", "ranks", "verdicts", "method", "provenance"):
        assert f'id="{key}"' in rest and f'href="#{key}"' in head
    for side in compared.sides:
        assert side.run.record["spec_hash"] in rest and str(side.run.folder) in rest
    assert len(compare_page) < 1_500_000


def test_every_cell_is_in_every_map_and_in_the_table(compared, compare_page):
    cells = len(compared.cells) // len(compared.outcomes)
    section = compare_page.split('id="map-kl-B"')[1].split("</section>")[0]
    drawings = section.split("<svg")[1:]
    assert len(drawings) == 3
    for drawing in drawings:
        assert drawing.count("<rect") - drawing.count('height="7"') == cells
    places = [re.findall(r'<rect x="([\d.]+)" y="([\d.]+)"[^>]*><title', d) for d in drawings]
    assert len(places[0]) == cells and places[0] == places[1] == places[2]  # linked by position
    assert section.count('<tr><th scope="row"') == cells


def test_nothing_is_fetched_and_no_script_runs(compare_page):
    assert "<script" not in compare_page and "script-src 'none'" in html.unescape(compare_page)
    assert not re.search(r"(?:src|href)=\"(?!#)", compare_page)


def test_names_are_text_wherever_they_stand(made_up, tmp_path):
    other = altered.copy(made_up, tmp_path / "x&<b>y", spec={"model": HOSTILE, "weights": "e" * 64})
    found = ma.compare(made_up, other, cells="none")
    page = render_comparison(found)
    assert "<script" not in page and "<b>y" not in page and "&lt;script&gt;" in page
    assert "<script" not in found._repr_html_()
    assert "<script" not in str(found.figure().to_json())


def test_a_page_of_these_runs_is_replaced_and_no_other(compared, made_up, tmp_path):
    path = compared.save(tmp_path / "page.html")
    assert compared.save(path) == path
    other = ma.compare(made_up, made_up, outcomes="flip")
    before = path.read_bytes()
    with pytest.raises(RunError, match="page of something else"):
        other.save(path)
    assert path.read_bytes() == before
    other.save(path, force=True)
    assert path.read_bytes() != before
    foreign = tmp_path / "mine.html"
    foreign.write_text("my own")
    with pytest.raises(RunError, match="not a report of moeaudit"):
        other.save(foreign, force=True)


def test_of_the_same_numbers_the_page_claims_nothing(made_up):
    page = render_comparison(ma.compare(made_up, made_up))
    assert "every difference is exactly 0.0" in page and "0.0, exactly" in page
