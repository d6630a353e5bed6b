"""Map, expert and token are one place: by click, by link, by search, back and forward."""

from __future__ import annotations

import json
import re


def fact(reader, name: str) -> str:
    """A value of the open panel by its name."""
    return reader.page.locator(f".xp-facts div:has(dt:text-is('{name}')) dd").inner_text()


def test_from_the_map_to_an_expert_to_a_token_and_back(reader):
    page = reader.open("#map").page
    cell = page.locator(".xp-cell[data-cell='3']")
    label = cell.get_attribute("aria-label")
    cell.click()
    assert reader.hash == "#expert=0.3" and reader.title == "Layer 0, expert 3"
    # the card says what the map said
    harm = re.search(r"harm (\S+), limits", label)[1]
    assert fact(reader, "harm").split("\n")[0][:4] == harm[:4]
    assert cell.get_attribute("aria-selected") == "true"
    link = page.locator(".xp-context a").first
    there = link.get_attribute("href")
    link.click()
    page.wait_for_selector(".xp-lanes")
    assert reader.hash == there and "Token" in reader.title
    assert page.locator(".xp-lane").count() == 6 and page.locator(".xp-chip").count() == 24
    chip = page.locator(".xp-chip").nth(5)
    named = re.search(r"layer (\d) expert (\d+)", chip.get_attribute("aria-label"))
    chip.click()
    assert reader.hash.startswith(f"#expert={named[1]}.{named[2]}")
    assert reader.title == f"Layer {named[1]}, expert {named[2]}"
    page.go_back()
    page.wait_for_selector(".xp-lanes")
    page.go_back()
    assert reader.title == "Layer 0, expert 3"
    page.go_back()
    page.wait_for_selector(".xp-panel", state="hidden")
    page.go_forward()
    assert reader.title == "Layer 0, expert 3"
    reader.shot("expert")


def test_a_copied_link_opens_what_it_names_and_a_wrong_one_says_so(reader):
    reader.open("#expert=2.7&show=kl")
    assert reader.title == "Layer 2, expert 7"
    assert reader.page.locator(".xp-map select").input_value() == "kl"
    reader.open("#token=0.3")
    assert "img src" in reader.title  # hostile text, as text
    assert reader.page.locator(".xp-text .tok.xp-open").count() == 1
    reader.open("#expert=99.1")
    assert reader.title == "Not here"
    reader.open("#token=nonsense")
    assert reader.title == "Not here"
    assert reader.page.locator("img").count() == 0


def test_the_card_of_an_expert_that_no_token_chose_claims_nothing(reader):
    reader.open("#expert=2.5")
    text = reader.page.locator(".xp-panel").inner_text()
    assert "nothing was measured" in text and "not shown to be useless" in text


def test_the_numbers_of_a_token_are_those_of_the_run(reader, page_file):
    from moeaudit.front import Run

    effects = Run.load(page_file.parent).effects
    rows = effects[(effects["document"] == 1) & (effects["position"] == 4)]
    worst = rows.loc[rows["delta_nll"].abs().idxmax()]
    reader.open("#token=1.4")
    shown = fact(reader, "largest effect")
    assert f"layer {worst['layer']} expert {worst['expert']}" in shown
    assert f"{int(rows['flip'].sum())}\n" in fact(reader, "flips")
    chips = reader.page.locator(".xp-chip").evaluate_all("all => all.map(a => a.ariaLabel)")
    assert len(chips) == len(rows)
    for label in chips:
        layer, expert, weight = re.search(r"layer (\d) expert (\d+): weight (\S+),", label).groups()
        row = rows[(rows["layer"] == int(layer)) & (rows["expert"] == int(expert))]
        assert abs(float(row["weight"].iloc[0]) - float(weight)) < 0.006


def test_the_map_shows_any_outcome_or_metric_and_one_cell_does_not_flatten_it(reader):
    page = reader.open("#map").page
    select = page.locator(".xp-map select")
    for key in select.locator("option").evaluate_all("all => all.map(o => o.value)"):
        select.select_option(key)
        found = page.locator(".xp-cell").evaluate_all("all => all.map(c => c.classList[1])")
        assert len(set(found) - {"none"}) >= 4, key
    assert reader.hash == f"#map&show={key}"
    # a cell without a value is empty, and says so
    assert page.locator(".xp-cell.none").count() >= 1
    assert page.locator(".xp-cell[data-cell='37']").get_attribute("aria-label").endswith("chosen")


def test_search_finds_experts_and_words(reader):
    page = reader.open("#map").page
    box = reader.place.get_by_role("searchbox")
    box.fill("layer 1 expert 4")
    box.press("Enter")
    assert reader.title == "Layer 1, expert 4"
    box.fill("model")
    found = page.locator(".xp-found a")
    assert found.count() > 1
    box.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(".xp-lanes")
    assert "model" in reader.title
    box.fill("nowhere at all")
    assert "Nothing found" in page.locator(".xp-found").inner_text()
    box.fill("onerror")
    assert page.locator(".xp-found a").count() == 1


def test_text_is_coloured_by_what_the_reader_chooses(reader):
    page = reader.open("#tokens").page
    assert "The sample:" in page.locator(".xp-read").inner_text()

    def colours() -> list[str]:
        return page.locator(".xp-text .tok").evaluate_all("all => all.map(t => t.classList[1])")

    harm = colours()
    reader.place.get_by_label("Colour by").select_option("kl")
    kl = colours()
    reader.place.get_by_label("In", exact=True).select_option("2")
    in_layer = colours()
    reader.place.get_by_label("Expert", exact=True).select_option(index=3)
    of_one = colours()
    assert len({json.dumps(c) for c in (harm, kl, in_layer, of_one)}) == 4
    assert of_one.count("none") > 0
    assert reader.hash.startswith("#tokens&color=kl%402.")
    reader.place.get_by_label("Colour by").select_option("m.reap")
    assert set(colours()) & {"q0", "q1", "q2", "q3", "q4"}
    page.go_back()
    assert colours() == of_one


def test_the_domain_filter_and_the_next_strongest_key(reader):
    page = reader.open("#tokens").page
    every = page.locator(".xp-pick").count()
    reader.place.get_by_label("Domain", exact=True).select_option(index=2)
    assert 0 < page.locator(".xp-pick").count() < every
    reader.place.get_by_label("Domain", exact=True).select_option("")
    first = page.locator(".xp-text .tok").first
    first.focus()
    values = []
    for _ in range(4):
        page.keyboard.press("n")
        said = page.locator(".xp-text .tok.xp-open").get_attribute("aria-label")
        values.append(abs(float(said.rsplit(",", 1)[1].replace("\u2212", "-"))))
        assert page.locator(".xp-lanes").count() == 1
    assert values == sorted(values, reverse=True) and values[0] > 0
    where = reader.hash
    page.keyboard.press("n")
    page.keyboard.press("p")
    assert reader.hash == where
    page.wait_for_function(
        "document.querySelector('.xp-spoken[role=status]').textContent.includes('4th strongest')"
    )
