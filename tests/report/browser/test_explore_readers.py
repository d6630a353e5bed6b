"""Everybody reads it: keyboard alone, phone, dark, print, scripts off; axe finds nothing."""

from __future__ import annotations

import pytest

PHONE = (390, 844)

STATES = {
    "map": "#expert=1.4",
    "spare": "#spare",
    "token": "#token=0.3",
}
# Every rule in the light; in the dark colours alone differ, and on a phone all but colours.
RULES = {
    "light": {},
    "dark": {"runOnly": ["color-contrast"]},
    "phone": {"rules": {"color-contrast": {"enabled": False}}},
}
WAIT = {"map": ".xp-panel .xp-facts", "spare": ".xp-spare >> visible=true", "token": ".xp-lanes"}


def violations(reader, kind: str) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    options = {**RULES[kind], "resultTypes": ["violations"]}
    found = axe.Axe().run(reader.page, context="#tokens", options=options).response["violations"]
    return [
        f"{v['impact']} {v['id']}: {[n['html'][:160] for n in v['nodes'][:3]]} {v['nodes'][0]['failureSummary']}"
        for v in found
    ]


@pytest.mark.parametrize("kind", ["light", "dark", "phone"])
def test_axe_finds_no_violation_of_any_impact(reader_of, kind):
    size = {"size": PHONE} if kind == "phone" else {}
    scheme = "dark" if kind == "dark" else "light"
    reader = reader_of(**size, color_scheme=scheme, reduced_motion="reduce")
    reader.open().alone()
    for name, fragment in STATES.items():
        reader.follow(fragment)
        reader.page.wait_for_selector(WAIT[name])
        assert not violations(reader, kind), (kind, name)
        reader.shot(f"{name}-{kind}")


def test_a_phone_needs_no_sideways_scrolling_anywhere_in_it(reader_of):
    reader = reader_of(size=PHONE, has_touch=True, is_mobile=True)
    page = reader.open().alone().page
    for name, fragment in STATES.items():
        reader.follow(fragment).page.wait_for_selector(WAIT[name])
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        wide = page.evaluate(
            "[...document.querySelectorAll('#explore *')].filter(e => e.scrollWidth > e.clientWidth + 1 "
            "&& ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)).map(e => e.className)"
        )
        assert wide == []
    reader.open("#map").page.locator(".xp-cell").nth(20).tap()
    assert reader.title == "Layer 1, expert 4"
    box = reader.page.locator(".xp-cell").nth(20).bounding_box()
    assert box["width"] >= 17 and box["height"] >= 24


def test_by_keyboard_alone(reader):
    page = reader.open("#map").page
    reader.place.get_by_role("searchbox").focus()
    keys = page.keyboard
    keys.press("Tab")
    assert reader.focused("role") == "tab"
    keys.press("Tab")
    keys.press("Tab")
    assert reader.focused("role") == "gridcell"
    keys.press("Home")
    keys.press("ArrowRight")
    keys.press("ArrowDown")
    label = reader.focused("aria-label")
    assert label.startswith("layer 1 expert 1:")
    assert page.locator(".xp-tip").is_visible()
    keys.press("Enter")
    assert reader.title == "Layer 1, expert 1" and reader.focused("text") == "Layer 1, expert 1"
    keys.press("Escape")
    assert reader.title == "" and reader.focused("aria-label") == label
    # one stop for the whole map: the next is beyond it
    keys.press("Tab")
    assert reader.focused("role") != "gridcell"
    page.locator("#xp-tab-map").focus()
    keys.press("ArrowRight")
    keys.press("ArrowRight")
    assert page.locator("#xp-tokens").is_visible()
    page.locator(".xp-text .tok[tabindex='0']").focus()
    keys.press("ArrowRight")
    keys.press("Enter")
    assert "Token" in reader.title
    page.locator(".xp-chip").first.focus()
    keys.press("ArrowDown")
    assert reader.focused("aria-label").startswith("layer 1 ")
    keys.press("Escape")
    assert reader.title == "" and "tok" in reader.focused("class")


def test_what_changes_is_spoken(reader):
    page = reader.open("#map").page
    page.locator(".xp-cell").nth(2).click()
    page.wait_for_function(
        "document.querySelector('.xp-spoken[role=status]').textContent === 'Layer 0, expert 2 opened'"
    )


def test_the_page_is_painted_before_anything_is_unpacked(reader):
    page = reader.go().page
    assert page.locator("h1").is_visible()
    assert page.locator(".xp-tabs").count() == 0
    page.locator("#tokens").scroll_into_view_if_needed()
    page.wait_for_selector(".xp-tabs")


def test_without_scripts_the_static_text_is_there(reader_of):
    page = reader_of(java_script_enabled=False).go("#expert=1.1").page
    assert page.locator("#tokens-still .tokens").first.is_visible()
    assert not page.locator("#explore").is_visible()
    # few stops for the tab key: the most affected tokens of each document, which a table lists too
    stops = page.locator("#tokens-still .tok[tabindex='0']").count()
    assert 0 < stops <= 4 * 12 < page.locator("#tokens-still .tok").count()


def test_print_leaves_the_place_out_and_says_so(reader):
    page = reader.open("#expert=1.1").page
    assert not page.locator("#tokens-still").is_visible()
    before = len(page.pdf())
    page.emulate_media(media="print")
    assert not page.locator("#explore").is_visible()
    assert page.locator("#tokens-still .tokens").first.is_visible()
    assert "On a screen, with scripts" in page.locator("#tokens-still").inner_text()
    assert before > 50_000


def test_an_old_browser_gets_the_static_text_back(reader):
    page = reader.page
    page.add_init_script("delete window.DecompressionStream")
    reader.go("#map")
    page.wait_for_function(
        "document.querySelector('#explore').textContent.includes('not available')"
    )
    assert page.locator("#tokens-still .tokens").first.is_visible()
