"""The page: self-contained, strict, complete without scripts, safe with hostile text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from made import synthetic

from moeaudit.errors import RunError
from moeaudit.front import Run
from moeaudit.report import plotly_figures, render, write_report
from moeaudit.store.files import read_table, write_json, write_table

FIGURES = ("maps", "contrasts", "mass", "bounds", "power", "associations", "depth", "spread")
BUDGET = 4_000_000  # bytes; 0.66 million are the compressed plotting library


class Elements(HTMLParser):
    """Every element with its attributes, and the text of script and style elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.code: list[tuple[str, dict[str, str | None], str]] = []
        self.inside: tuple[str, dict[str, str | None]] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside = (tag, dict(attrs)) if tag in ("script", "style") else None

    def handle_data(self, data):
        if self.inside is not None:
            self.code.append((*self.inside, data))
            self.inside = None


def policy_of(page: str) -> dict[str, list[str]]:
    elements = Elements(page).found
    content = next(
        a["content"]
        for tag, a in elements
        if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    return {part.split()[0]: part.split()[1:] for part in content.split(";")}


def sha(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_what_the_maker_says_of_the_model_stands_first_and_among_the_limits(tmp_path):
    folder = synthetic.write_run(tmp_path, documents=4, tokens=12)
    record = json.loads((folder / "audit.json").read_text("utf-8"))
    record["model"] |= {"note": "A fixture <made> by hand.", "source": "folder"}
    record["spec"]["text"] = "bundled"
    write_json(folder / "audit.json", record)
    page = render(Run.load(folder))
    head, body = page.split("</header>")[0], page.split('id="limits"')[1].split("</section>")[0]
    assert "A fixture &lt;made&gt; by hand." in head and "A fixture &lt;made&gt; by hand." in body
    assert "bundled models are small" not in body  # the text is bundled, the model is not


def test_the_policy_allows_nothing_but_named_code(page):
    policy = policy_of(page)
    assert policy["default-src"] == ["'none'"]
    # what the plotting library needs, which neither fetches nor runs anything
    assert policy.pop("style-src-attr") == ["'unsafe-inline'"]
    assert policy.pop("img-src") == ["data:"]
    for name, sources in policy.items():
        for source in sources:
            assert source == "'none'" or source.startswith("'sha256-"), (name, source)


def test_every_inline_script_and_style_is_named_by_its_hash(page):
    from moeaudit.report.pages.library import library

    policy = policy_of(page)
    code = Elements(page).code
    runs = [text for tag, a, text in code if tag == "script" and "type" not in a]
    styles = [text for tag, _, text in code if tag == "style"]
    assert len(runs) == len(styles) == 1
    assert sha(runs[0]) in policy["script-src"]
    assert sha(styles[0]) in policy["style-src-elem"]
    # the library is unpacked by the page's own script, and may run for its hash alone
    assert set(policy["script-src"]) == {sha(runs[0]), sha(library()[0])}


def test_the_packed_library_is_the_one_the_policy_names(page):
    import gzip

    packed = re.search(r'id="plotly-gz">([^<]+)</script>', page)
    assert packed
    unpacked = gzip.decompress(base64.b64decode(packed[1])).decode()
    assert sha(unpacked) in policy_of(page)["script-src"]


def test_nothing_is_fetched_and_no_handler_is_inline(page):
    for tag, attributes in Elements(page).found:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "srcset", "action", "data", "poster"), (tag, name)
            assert name != "style", (tag, "the page itself needs no style attributes")
            if name in ("href", "xlink:href"):
                assert value is not None
                assert value.startswith("#"), value
        assert tag not in ("link", "iframe", "object", "embed", "img", "base", "form")
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_the_page_fits_its_budget_and_most_of_it_is_the_library(page):
    assert len(page.encode()) < BUDGET


def test_without_scripts_every_figure_has_a_drawing_and_a_table(shown):
    for key in FIGURES:
        section = re.search(rf'<section id="{key}".*?</section>', shown, re.DOTALL)
        assert section, key
        assert section[0].count("<svg") >= 1
        assert "<table>" in section[0]
        assert "<caption>" in section[0]
    assert shown.index('id="answer"') < shown.index('id="verification"') < shown.index('id="maps"')
    assert shown.index('id="limits"') < shown.index('id="provenance"')


def test_buttons_that_need_scripts_are_hidden_without_them(page):
    buttons = [a for tag, a in Elements(page).found if tag == "button"]
    assert {b["data-plot"] for b in buttons} == set(FIGURES)
    assert all("hidden" in b for b in buttons)


def test_elements_are_balanced(page):
    class Balance(HTMLParser):
        void = {"meta", "br", "line", "rect", "circle", "polyline", "polygon", "text"}
        stack: list[str] = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "br"):
                self.stack.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert self.stack, f"</{tag}> without a start"
            assert self.stack.pop() == tag

    parser = Balance()
    parser.feed(page)
    assert parser.stack == []


def test_interactive_twins_are_valid_and_cannot_end_their_element(page):
    specs = re.findall(r'id="plot-(\w+)">(.*?)</script>', page, re.DOTALL)
    assert {key for key, _ in specs} == set(FIGURES)
    for _, text in specs:
        assert "<" not in text
        assert json.loads(text)["data"]


def test_the_same_figures_are_there_as_plotly_objects(run):
    import plotly.graph_objects as go

    found = plotly_figures(run)
    assert tuple(found) == FIGURES
    assert all(isinstance(figure, go.Figure) for figure in found.values())
    # the map shows the very means of the effects table
    effects = run.effects
    mean = effects[(effects["layer"] == 5) & (effects["expert"] == 0)]["delta_nll"].mean()
    assert found["maps"].data[0].z[5][0] == pytest.approx(mean, rel=1e-2)


ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory) -> str:
    """A run whose tokens, domains, model, notes, metrics and skip reasons are all hostile."""
    folder = synthetic.write_run(
        tmp_path_factory.mktemp("attacked"), model=ATTACK, documents=8, tokens=12, layers=3
    )
    for name, column in (
        ("tokens", "text"),
        ("tokens", "domain"),
        ("documents", "domain"),
        ("experts", "metric"),
        ("tests", "metric"),
        ("tests", "reason"),
    ):
        table = read_table(folder / f"{name}.parquet")
        table[column] = table[column].astype(str) + ATTACK
        if column == "metric":
            table[column] = table[column].where(~table[column].str.contains("reap"), ATTACK)
        write_table(folder / f"{name}.parquet", table)
    record = json.loads((folder / "audit.json").read_text())
    record["notes"].append(ATTACK)
    record["engine"] = ATTACK
    record["model"]["architecture"] = record["model"]["source"] = ATTACK
    record["verification"][1]["skipped"] = ATTACK
    write_json(folder / "audit.json", record)
    return render(Run.load(folder))


def test_hostile_text_stays_text(attacked):
    elements = Elements(attacked)
    assert not any(tag == "img" for tag, _ in elements.found)
    assert not any(name.startswith("on") for _, a in elements.found for name in a)
    scripts = [text for tag, _, text in elements.code if tag == "script"]
    assert not any("alert(" in text and "<" in text for text in scripts)
    # four data blocks aside from the figures: what the slider reads, the library, the packed experts and tokens,
    # and the page's own script
    assert len(scripts) == len(re.findall(r'id="plot-', attacked)) + 4
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in attacked
    assert policy_of(attacked)["default-src"] == ["'none'"]


def test_a_report_replaces_a_report_and_nothing_else(run, tmp_path):
    path = tmp_path / "deep" / "page.html"
    assert write_report(run, path) == path
    write_report(run, path)
    notes = tmp_path / "notes.html"
    notes.write_text("<html>mine</html>")
    with pytest.raises(RunError, match="is not a report of moeaudit"):
        run.report(notes)
    assert notes.read_text() == "<html>mine</html>"
    with pytest.raises(RunError, match="is a folder"):
        run.report(tmp_path)
    assert {p.name for p in path.parent.iterdir()} == {"page.html"}


def test_the_report_of_one_run_is_the_same_twice(run):
    assert render(run) == render(run)


def test_effects_above_rounding_are_counted(run, monkeypatch):
    from moeaudit.report.audit.rounding import drift_words

    effects = run.shards.read(["delta_nll"])["delta_nll"].abs()
    monkeypatch.setitem(run.record, "drift", float(effects.median()))
    above = int((effects > effects.median()).sum())
    assert f"{above:,} of {len(effects):,} effects" in drift_words(run) and 0 < above < len(effects)
    assert "%) are larger than that" in drift_words(run)


def test_the_still_token_browser_says_which_domains_it_leaves_out(shown, run):
    names = list(dict.fromkeys(run.tokens["domain"].astype(str)))
    documents = run.tokens["document"].nunique()
    still = shown[shown.index('id="tokens-still"') :]
    shown_here = min(len(names), 4)
    assert f"{shown_here} documents of {documents}, at most 160 tokens of each" in still
    assert ("Nothing of " in still) == (len(names) > 4)
    from moeaudit.report.pages.browser import _left_out

    wide = run.tokens.assign(domain=[f"domain {d}" for d in run.tokens["document"]])
    said = str(_left_out(wide, wide.drop_duplicates("document").head(4)))
    assert f"Nothing of {documents - 4} domains stands here: domain 4, " in said
