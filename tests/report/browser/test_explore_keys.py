"""Keys that go on from where the reader was, names that search knows, and words no surer than the limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moeaudit.front import Run

SCRIPTS = Path(__file__).parents[3] / "moeaudit" / "report" / "static" / "explore"


def strongest(reader) -> str:
    spoken = ".xp-spoken[role=status]"
    reader.page.wait_for_function(
        f"document.querySelector('{spoken}').textContent.includes('strongest of')"
    )
    return reader.page.locator(spoken).inner_text()


def test_closing_a_route_returns_to_its_token_and_n_goes_on_from_it(reader):
    page = reader.open("#tokens").page
    page.locator(".xp-text .tok").nth(7).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".xp-lanes")
    assert reader.focused("data-at") is None  # the route has the focus
    page.keyboard.press("Escape")
    assert reader.title == "" and reader.focused("data-at") == "7"
    assert page.locator(".xp-text .tok[tabindex='0']").evaluate_all(
        "all => all.map(t => t.dataset.at)"
    ) == ["7"]
    for _ in range(3):
        page.keyboard.press("n")
    third = reader.hash
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    assert reader.hash != third
    page.keyboard.press("p")
    assert reader.hash == third


def test_keys_work_in_the_panel_and_on_the_body_but_not_while_typing(reader):
    page = reader.open("#tokens").page
    page.evaluate("document.activeElement.blur()")
    assert page.evaluate("document.activeElement === document.body")
    page.keyboard.press("n")
    assert strongest(reader).startswith("1st")
    page.locator(".xp-chip").first.focus()
    page.keyboard.press("n")
    page.wait_for_function(
        "document.querySelector('.xp-spoken[role=status]').textContent.startsWith('2nd')"
    )
    where = reader.hash
    box = reader.place.get_by_role("searchbox")
    box.press("n")
    box.press("p")
    assert box.input_value() == "np" and reader.hash == where
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Escape")
    assert reader.title == ""


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("expert 7", [f"layer {layer} expert 7" for layer in range(6)]),
        ("E7", [f"layer {layer} expert 7" for layer in range(6)]),
        ("L5", [f"layer 5 expert {expert}" for expert in range(12)]),
        ("layer 5", [f"layer 5 expert {expert}" for expert in range(12)]),
        ("L5 E3", ["layer 5 expert 3"]),
        ("L5E3", ["layer 5 expert 3"]),
        ("layer 5 expert 3", ["layer 5 expert 3"]),
        ("5.3", ["layer 5 expert 3"]),
    ],
)
def test_search_knows_the_names_of_experts(reader, typed, found):
    page = reader.open("#map").page
    reader.place.get_by_role("searchbox").fill(typed)
    assert page.locator(".xp-found a b").all_inner_texts() == found


def test_the_card_says_what_its_own_limits_say_and_what_chance_does(reader):
    page = reader.open("#map").page
    tested = re.search(r"of (\d+) cells", page.locator(".xp-map").inner_text())[1]
    costs = page.locator(".xp-cell.xp-settled[aria-label*='harm +']")
    for cell, words in (
        (costs, "lie above 0: on text like this"),
        (page.locator(".xp-cell:not(.xp-settled)"), "contain 0"),
    ):
        cell.first.click()
        lead = page.locator(".xp-panel .xp-lead").inner_text()
        assert f"The 95% limits, of this expert alone, {words}" in lead and "at least" not in lead
        assert f"Each of {tested} experts has limits of its own; by chance alone about 5%" in lead
        by_domain = page.locator(".xp-block:has(h4:text-is('Harm by domain')) .xp-hint")
        assert "by chance alone about 5%" in by_domain.inner_text()


def computed(reader, expression: str):
    """What the scripts of the place make of an expression, outside their own closure."""
    made = "".join(
        (SCRIPTS / name).read_text(encoding="utf-8") for name in ("words.js", "dom.js", "card.js")
    )
    return reader.go().page.evaluate(f"(() => {{ {made}\nreturn {expression}; }})()")


def test_domains_whose_limits_exclude_each_other_are_said_to_differ(reader):
    row = "(domain, low, high) => ({ domain, low, high })"
    said = computed(
        reader,
        f"""((row) => [
          [row(0, 1, 2), row(1, -1, 0.5), row(2, 0, 3)],
          [row(0, 1, 2), row(1, 0, 1.5)],
          [row(0, 1, 2), row(1, null, null)],
        ].map((rows) => apartOf({{ perDomain: new Map([[0, rows]]), domains: ["code", "law", "news"] }}, 0))
          .map((said) => said && said.map((part) => part.textContent ?? part).join("")))({row})""",
    )
    assert said[0] == (
        " Domains may differ: of 3, the two furthest apart are code [+1.00, +2.00] "
        "and law [\u22121.00, +0.50], whose limits do not overlap. They were picked as the "
        "furthest apart, which chance alone does at times."
    )
    assert said[1:] == [None, None]


def test_only_zero_reads_as_zero(reader):
    said = computed(
        reader,
        "[limits(2e-9, 3e-7), limits(-4e-8, 0.5), limits(0, 1), limits(0.001, 0.4), estimate(1e-8, 2e-9, 3e-8)]",
    )
    assert said == [
        "[+2.0e\u22129, +3.0e\u22127]",
        "[\u22124.0e\u22128, +0.500000]",
        "[0.00, +1.00]",
        "[+0.001, +0.400]",
        "+1.0e\u22128 [+2.0e\u22129, +3.0e\u22128]",
    ]


def test_tokens_that_are_links_look_so(reader):
    page = reader.open("#expert=1.4").page
    line = "all => all.map(m => getComputedStyle(m).textDecorationLine)"
    links, others = page.locator(".xp-context a mark"), page.locator(".xp-context > mark")
    assert links.count() and set(links.evaluate_all(line)) == {"underline"}
    assert set(others.evaluate_all(line)) <= {"none"}
    assert "clipped to 0 to 100%" in page.locator(".xp-panel").inner_text()


def test_text_is_coloured_by_the_layer_or_the_expert_with_the_strongest_effect(reader, page_file):
    effects = Run.load(page_file.parent).effects
    one = effects[effects["document"] == 0]
    most = one.loc[one["delta_nll"].abs().groupby(one["position"]).idxmax()].sort_values("position")
    page = reader.open("#tokens&color=layer").page
    labels = "all => all.map(t => t.getAttribute('aria-label').split(', ').at(-1))"
    assert page.locator(".xp-text .tok").evaluate_all(labels)[: len(most)] == [
        f"layer {layer}" for layer in most["layer"]
    ]
    assert "of tokens" in page.locator(".xp-read .xp-legend").inner_text()
    reader.open("#tokens&color=expert")
    assert page.locator(".xp-text .tok").evaluate_all(labels)[: len(most)] == [
        f"layer {layer} expert {expert}" for layer, expert in zip(most["layer"], most["expert"])
    ]
    assert "others" in page.locator(".xp-read .xp-legend").inner_text()
    assert reader.place.get_by_label("Colour by").input_value() == "expert"
    reader.shot("tokens-expert")
    # the keys go by the size of the effect, not by a number of a name
    page.locator(".xp-text .tok").first.focus()
    page.keyboard.press("n")
    place = effects.loc[effects["delta_nll"].abs().idxmax()]
    wanted = f"layer {place['layer']} expert {place['expert']}"
    assert strongest(reader).endswith(wanted)


@pytest.mark.parametrize("colour", ["nonsense", "kl@99", "kl@1.999"])
def test_a_colour_that_is_not_known_is_said_to_be_so(reader, colour):
    page = reader.open(f"#tokens&color={colour}").page
    said = page.locator(".xp-read .xp-legend")
    assert f"\u201c{colour}\u201d of the address is not known" in said.inner_text()
    reader.place.get_by_label("Colour by").select_option("nll")
    assert "not known" not in said.inner_text()
