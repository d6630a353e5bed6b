"""Run folders that are cut short, newer, damaged or empty: the file is named, and nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from made import synthetic
from made.command_line import call

from moeaudit.runs.working.intact import stale_page
from moeaudit.version import digest


def changed(**values: object) -> Callable[[Path], None]:
    """A change of the record; None takes a field away."""

    def do(folder: Path) -> None:
        path = folder / "audit.json"
        record = json.loads(path.read_text()) | values
        path.write_text(json.dumps({k: v for k, v in record.items() if v is not None}))

    return do


def cut(name: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:100])

    return do


def gone(name: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return do


# What is wrong, and words of the message, among them the file.
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "newer": (changed(format="moeaudit-run/9"), "audit.json is in the format moeaudit-run/9"),
    "no JSON": (
        lambda folder: (folder / "audit.json").write_text("{"),
        "audit.json cannot be read",
    ),
    "no spec": (changed(spec=None), "audit.json is damaged: it has no spec"),
    "no summary": (changed(summary=None), "audit.json is damaged: it has no summary"),
    "unfinished": (changed(status="running"), "was not finished"),
    "a part": (changed(part={"index": 1, "of": 2}), "holds part 1 of 2"),
    "no effects": (gone("effects"), "effects holds no effects"),
    "bad manifest": (cut("effects/manifest.json"), "manifest.json is damaged"),
    "shard gone": (gone("effects/00000.parquet"), "00000.parquet is missing"),
    "shard cut": (cut("effects/00000.parquet"), "00000.parquet is damaged"),
    "tests gone": (gone("tests.parquet"), "tests.parquet is missing"),
    "tests cut": (cut("tests.parquet"), "tests.parquet"),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = synthetic.write_run(
        tmp_path_factory.mktemp("whole") / "run", documents=8, tokens=12, layers=3
    )
    (folder / "report.html").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return {}


@pytest.fixture
def once(rendered, monkeypatch) -> list[str]:
    """The page of a record is rendered once and then remembered, whichever test asks; all that were asked for."""
    from moeaudit.report import page

    render, asked = page.render, []

    def remembered(run) -> str:
        key = json.dumps(run.record, sort_keys=True)
        asked.append(key)
        if key not in rendered:
            rendered[key] = render(run)
        return rendered[key]

    monkeypatch.setattr(page, "render", remembered)
    return asked


@pytest.mark.parametrize("command", ["report", "open"])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_run_is_refused_by_the_file(case, command, base, tmp_path, monkeypatch, capfd):
    spoil, words = BAD[case]
    folder = Path(shutil.copytree(base, tmp_path / "run"))
    spoil(folder)
    before = sorted(folder.rglob("*"))
    assert call(monkeypatch, command, folder) == 2
    out, err = capfd.readouterr()
    assert words in err and str(folder) in err
    assert out == "" and err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before, "nothing half-written"


@pytest.mark.parametrize(
    "case", [c for c in BAD if c not in ("newer", "no JSON", "no spec", "no summary")]
)
def test_verify_says_what_failed(case, base, tmp_path, monkeypatch, capfd):
    folder = Path(shutil.copytree(base, tmp_path / "run"))
    BAD[case][0](folder)
    assert call(monkeypatch, "verify", folder, "--json") == 1
    said = json.loads(capfd.readouterr().out)
    failed = [each for each in said["checks"] if each["passed"] is False]
    assert not said["passed"] and failed
    slow = next(each for each in said["checks"] if each["check"] == "recomputed")
    assert slow["passed"] is None and "not recomputed" in slow["says"]


def test_rows_lost_or_twice_are_seen(base, tmp_path, monkeypatch, capfd):
    import pandas as pd

    from moeaudit.store.shards import Shards

    for change, words in (
        (lambda frame: frame.iloc[1:], "rows is"),
        (lambda frame: pd.concat([frame.iloc[:1], frame.iloc[:-1]]), "1 rows twice"),
    ):
        folder = Path(shutil.copytree(base, tmp_path / words))
        shards = Shards(folder / "effects")
        shards.write(0, change(next(shards.frames())).reset_index(drop=True))
        assert call(monkeypatch, "verify", folder, "--rows", 0) == 1
        assert words in capfd.readouterr().out


def test_the_page_of_another_run_is_kept(base, tmp_path, monkeypatch, capfd):
    from moeaudit.runs.working.folder import MARK, require_own_page

    page = tmp_path / "page.html"
    mine = json.loads((base / "audit.json").read_text())["spec_hash"]
    page.write_text(f'{MARK} 0.1.0">{mine}')
    require_own_page(page, mine)
    other = Path(shutil.copytree(base, tmp_path / "other"))
    record = json.loads((other / "audit.json").read_text())
    record["spec"]["seed"] += 1
    (other / "audit.json").write_text(json.dumps(record))
    first = page.read_bytes()
    assert call(monkeypatch, "report", other, "--out", page) == 2
    assert "page.html is the page of another run" in capfd.readouterr().err
    assert page.read_bytes() == first
    assert call(monkeypatch, "report", other, "--out", page, "--force") == 0
    assert page.read_bytes() != first


def test_open_writes_a_page_that_is_missing_or_stale(base, once, tmp_path, monkeypatch, capfd):
    import webbrowser

    folder = Path(shutil.copytree(base, tmp_path / "run"))
    shown: list[str] = []

    class Browser:
        def open(self, address: str) -> bool:
            shown.append(address)
            return True

    monkeypatch.setattr(webbrowser, "get", Browser)
    assert call(monkeypatch, "open", folder, "--json") == 0
    assert json.loads(capfd.readouterr().out)["written"] is True
    page = folder / "report.html"
    whole = page.read_text()
    assert call(monkeypatch, "open", folder) == 0
    assert capfd.readouterr().out == f"{page}\n" and shown == [page.as_uri()]
    finished = json.loads((folder / "audit.json").read_text())["finished"]
    page.write_text(whole.replace(finished, "1999-01-01T00:00:00+00:00"))
    assert call(monkeypatch, "open", folder, "--print") == 0
    assert page.read_text() == whole and len(shown) == 1
    # The same version, but the page's own files were others.
    page.write_text(whole.replace(digest("report"), "0" * 12))
    assert stale_page(folder) == "was written by another version"
    assert call(monkeypatch, "open", folder, "--print") == 0 and page.read_text() == whole
    assert len(once) == 3 and len(set(once)) == 1  # missing, of another run, of another version


def test_without_a_browser_the_path_is_printed(base, once, tmp_path, monkeypatch, capfd):
    import webbrowser

    def none() -> None:
        raise webbrowser.Error("no browser")

    monkeypatch.setattr(webbrowser, "get", none)
    folder = Path(shutil.copytree(base, tmp_path / "run"))
    assert call(monkeypatch, "open", folder) == 0
    out, err = capfd.readouterr()
    assert out == f"{folder / 'report.html'}\n" and "no browser here" in err
