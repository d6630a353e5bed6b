"""Which experts can be spared: sorted, filtered, taken away as CSV, and never more sure than the limits."""

from __future__ import annotations

import csv
from pathlib import Path

from moeaudit.front import Run


def number(text: str) -> float:
    return float(text.replace("\u2212", "-"))


def column(reader, at: int) -> list[str]:
    rows = reader.page.locator(f".xp-spare tbody tr > :nth-child({at})")
    return rows.all_inner_texts()


def saved(reader, tmp_path: Path) -> list[dict[str, str]]:
    with reader.page.expect_download() as waiting:
        reader.place.get_by_role("button", name="Download CSV").click()
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    assert path.name == "tiny-made-up-experts.csv"
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_sorts_by_every_column_and_says_so(reader, tmp_path):
    page = reader.open("#spare").page
    rows = [r for r in saved(reader, tmp_path) if r["harm_high"]]
    upper = [float(r["harm_high"]) for r in rows]
    assert upper == sorted(upper) and len(upper) > 20
    places = [f"layer {r['layer']} \u00b7 {r['expert']}" for r in rows]
    assert column(reader, 1) == places[:60]
    reader.place.get_by_role("button", name="harm (nats)", exact=True).click()
    harm = [number(t) for t in column(reader, 3) if t != "\u2013"]
    assert harm == sorted(harm)
    reader.place.get_by_role("button", name="harm (nats)", exact=True).click()
    harm = [number(t) for t in column(reader, 3) if t != "\u2013"]
    assert harm == sorted(harm, reverse=True)
    head = page.locator("th:has(button[data-key='harm'])")
    assert head.get_attribute("aria-sort") == "descending"
    assert reader.focused("data-key") == "harm"


def test_the_csv_has_every_row_with_the_numbers_of_the_run(reader, page_file, tmp_path):
    reader.open("#spare")
    rows = saved(reader, tmp_path)
    effects = Run.load(page_file.parent).effects
    assert len(rows) == 96  # all that are filtered, not only those on the page
    means = effects.groupby(["layer", "expert"])["delta_nll"].agg(["mean", "size"])
    for row in rows:
        place = (int(row["layer"]), int(row["expert"]))
        if row["n"] == "0":
            assert place not in means.index and row["harm_nats"] == ""
            continue
        assert int(row["n"]) == means.loc[place, "size"]
        assert abs(float(row["harm_nats"]) - means.loc[place, "mean"]) < 1e-3
    whole = sum(float(r["harm_per_token_of_text"]) for r in rows if r["harm_per_token_of_text"])
    assert abs(whole - effects["delta_nll"].sum() / (12 * 30)) < 0.01


def test_it_filters_and_a_formula_stays_text(reader, tmp_path):
    reader.open("#spare")
    reader.place.get_by_label("Layer", exact=True).select_option("1")
    assert all(t.startswith("layer 1 ") for t in column(reader, 1)) and len(column(reader, 1)) == 16
    reader.place.get_by_label("Harm in").select_option(label="=1+1")
    rows = saved(reader, tmp_path)
    assert {r["domain"] for r in rows} == {"'=1+1"} and {r["layer"] for r in rows} == {"1"}
    reader.place.get_by_label("Harm in").select_option("")
    reader.place.get_by_label("Limits say").select_option("open")
    assert set(column(reader, 2)) == {"not settled"}


def test_no_expert_is_safe_because_it_was_not_shown_to_harm(reader):
    page = reader.open("#spare").page
    said = page.locator("#xp-spare .xp-lead").inner_text()
    assert "is not shown to be spared safely" in said and "by chance alone" in said.lower()
    for limits, word in zip(column(reader, 4), column(reader, 2)):
        if limits == "\u2013":
            assert word == "no limits"
            continue
        low, high = (number(x) for x in limits.strip("[]").split(", "))
        assert word == ("costs" if low > 0 else "helps" if high < 0 else "not settled")
    accept = reader.place.get_by_label("Harm I accept (nats)")
    accept.fill("0.02")
    assert (
        "upper limit below the 0.02 nats that you accept"
        in page.locator("#xp-spare .xp-lead").inner_text()
    )
    reader.place.get_by_label("Limits say").select_option("within")
    shown = [number(t.strip("[]").split(", ")[1]) for t in column(reader, 4)]
    assert shown and max(shown) <= 0.02


def test_what_pruning_let_go_stands_beside_the_harm(reader, tmp_path):
    reader.open("#spare").place.get_by_role("button", name="goes by reap at").click()
    assert column(reader, 9)[:2] == ["75%", "stays"] and column(reader, 1)[0] == "layer 1 \u00b7 4"
    kept = [r["kept_when_it_goes_by_reap"] for r in saved(reader, tmp_path)]
    assert kept == ["0.75", *[""] * 95]
    reader.follow("#expert=1.4")
    reader.page.wait_for_selector(".xp-facts")
    assert "Pruned by reap, it goes once 75% of the experts are kept." in reader.place.inner_text()


def test_a_row_opens_the_card_and_closing_returns_to_it(reader):
    page = reader.open("#spare").page
    link = page.locator(".xp-spare tbody a").nth(4)
    name = link.inner_text()
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".xp-panel:not([hidden])")
    assert reader.title.replace("Layer", "layer").replace(", expert ", " \u00b7 ") == name
    assert "view=spare" in reader.hash or page.locator("#xp-spare").is_visible()
    page.keyboard.press("Escape")
    assert reader.title == "" and reader.focused("text") == name
    reader.shot("spare")


def test_it_is_copied_as_a_sheet_takes_it(reader_of):
    reader = reader_of(permissions=["clipboard-read", "clipboard-write"])
    reader.open("#spare").place.get_by_role("button", name="Copy", exact=True).click()
    reader.place.get_by_role("button", name="Copied").wait_for()
    lines = reader.page.evaluate("navigator.clipboard.readText()").split("\n")
    assert len(lines) == 97 and lines[0].startswith("layer\texpert\tdomain\tlimits_say")
