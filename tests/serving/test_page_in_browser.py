"""What people can do on the page, in a real browser: with a mouse, a keyboard, a phone, a hostile catalogue."""

import re
from contextlib import ExitStack

import pytest

from genrail.catalog import Catalog
from genrail.serving.keys import Key
from tests.serving.browsers import CONTRAST, NAMELESS, Page, browser, serious
from tests.serving.clients import keys_in
from tests.serving.processes import server
from tests.shops import build, engine, pasts, shop

COUNTS = """() => { const rows = [...document.querySelectorAll("#filters .box")];
  return [rows.map((row) => row.querySelector("label").textContent),
          rows.map((row) => Number(row.querySelector(".number").textContent))]; }"""
HOSTILE = '<img src=x onerror="document.title=\'taken\'"><script>document.title="taken"</script>'


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def url(chromium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    engine().save(folder / "shop.genrail")
    other = Catalog.from_items(
        [*map(dict, _items()), {"sku": "evil", "name": HOSTILE, "colour": HOSTILE, "price": 1, "in_stock": True}]
    )
    build(other, interactions=pasts(shop())).save(folder / "other.genrail")
    with server(folder / "shop.genrail", "--beside", str(folder / "other.genrail")) as (running, _):
        yield running.url


def _items():
    return [{"sku": f"s{n}", "name": shop().titles[n], **shop().attributes(n)} for n in range(20)]


@pytest.fixture
def at(chromium, url):
    with ExitStack() as opened:

        def go(**more):
            page = Page(chromium, url, **more)
            opened.callback(page.page.context.close)
            return page

        yield go


def hits(page):
    return page.eval_on_selector_all(".hit", "(all) => all.map((each) => each.dataset.id)")


def test_answers_come_as_one_types_and_only_from_this_server(at, url):
    it = at()
    page = it.open()
    it.search("red boot")
    assert len(hits(page)) == 12 and "ms" in page.inner_text("#status")
    page.click("text=Show more")
    it.settled()
    assert len(hits(page)) == len(set(hits(page))) == 24
    assert page.url.endswith("#search?q=red+boot") and page.title().startswith("red boot – ")
    assert all(asked.startswith(url) for asked in it.asked)
    assert not any("boot" in asked for asked in it.asked)  # words travel in bodies, never in addresses
    assert it.errors == []


def test_filters_are_check_boxes_with_counts_of_this_question(at):
    it = at()
    page = it.open()
    it.search("boot")
    page.fill("input[aria-label='price, at most']", "30")
    page.check("#filter-colour-red")
    it.settled()
    found = hits(page)
    assert found and all(int(one[1:]) % 4 == 0 and int(one[1:]) <= 20 for one in found)
    counts = dict(zip(*page.evaluate(COUNTS), strict=True))
    assert counts["red"] == 6 and counts["blue"] == 5  # of 10 to 30: as if no colour were chosen
    page.check("#filter-colour-blue")
    it.settled()
    assert {int(one[1:]) % 4 for one in hits(page)} == {0, 1}
    assert "colour IN ('red', 'blue')" in page.inner_text("#filters")
    page.uncheck("#filter-colour-blue")
    page.fill("#filter-text", "price <")
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.evaluate("document.querySelector('main').classList.contains('old')")
    page.fill("#filter-text", "in_stock")
    page.wait_for_selector("#trouble", state="hidden")
    it.settled()
    assert set(hits(page)) == {one for one in found if int(one[1:]) % 3}
    page.click("text=Clear all")
    it.settled()
    assert len(hits(page)) == 12
    assert [error for error in it.errors if "422" not in error] == []


def test_an_answer_without_items_says_what_to_do(at):
    it = at()
    page = it.open("#search?q=boot&where=price+%3E+1000")
    page.wait_for_selector("text=No item is allowed by these filters.")
    page.click("text=Remove the filters")
    page.wait_for_selector(".hit")
    assert it.errors == []


def test_the_back_button_leads_to_the_question_before(at):
    it = at()
    page = it.open()
    page.click("#examples button >> nth=0")
    page.wait_for_selector(".hit")
    it.settled()
    first, words = hits(page), page.input_value("#query")
    page.fill("#query", "sandal")
    page.press("#query", "Enter")
    it.settled()
    assert hits(page) != first
    page.click("#tab-map")
    page.wait_for_selector(".tile")
    page.go_back()
    page.wait_for_selector(".hit")
    assert page.input_value("#query") == "sandal"
    page.go_back()
    it.settled()
    assert page.input_value("#query") == words and hits(page) == first
    assert it.errors == []


def test_words_that_match_are_marked_and_the_price_is_shown(at):
    it = at()
    page = it.open()
    it.search("red boot")  # this engine reads no words one by one: those of the query are marked as they are typed
    first = page.locator(".hit").first
    assert first.locator("mark").all_inner_texts() == ["red", "boot"]
    assert first.locator(".price").inner_text() == str(10 + int(hits(page)[0][1:]))
    assert first.locator(".swatch").count() == 1
    assert it.errors == []


def test_old_answers_stay_dimmed_while_the_server_cannot_be_reached(at):
    it = at()
    page = it.open()
    it.search("red boot")
    before = hits(page)
    page.context.set_offline(True)
    page.fill("#query", "blue sandal")
    page.wait_for_selector("#trouble:not([hidden])")
    assert hits(page) == before and page.evaluate("document.querySelector('main').classList.contains('old')")
    page.context.set_offline(False)  # the browser says so, and the page asks again
    page.wait_for_selector("#trouble", state="hidden")
    it.settled()
    assert hits(page) != before


def test_suggestions_come_as_one_types_and_are_taken_with_the_keyboard(at):
    it = at()
    page = it.open()
    page.type("#query", "sand")
    page.wait_for_selector("#suggestions:not([hidden]) li")
    assert page.get_attribute("#query", "aria-expanded") == "true"
    assert all("sand" in text for text in page.locator("#suggestions li").all_inner_texts())
    it.settled()  # answers that are waited for are dimmed
    assert serious(page) == []
    page.keyboard.press("ArrowDown")
    chosen = page.inner_text("#suggestions li[aria-selected='true']")
    assert page.get_attribute("#query", "aria-activedescendant") == "suggestion-0"
    page.keyboard.press("Enter")
    it.settled()
    assert page.input_value("#query") == chosen and page.is_hidden("#suggestions") and hits(page)
    assert not any("sand" in asked for asked in it.asked)
    page.type("#query", " re")
    page.keyboard.press("Escape")
    assert page.is_hidden("#suggestions")
    assert it.errors == []


def test_a_slash_goes_to_the_search_field(at):
    it = at()
    page = it.open()
    assert page.evaluate("document.activeElement.id") == "query"  # also when the page is opened
    page.click("#tab-map")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query" and page.input_value("#query") == ""


def test_picked_items_bring_what_shoppers_like_this_take(at):
    it = at()
    page = it.open()
    it.search("boot")
    first = hits(page)[0]
    page.click(f"[data-id='{first}'] button:text-is('Pick')")
    it.settled()
    page.click("#tab-shoppers")
    page.wait_for_selector(".hit")
    it.settled()
    assert "1 picked item" in page.inner_text("#picks")
    assert hits(page) == [hit.item_id for hit in engine().recommend(history=[first], k=12)]
    page.click("#picks button")
    it.settled()
    assert page.is_hidden("#picks") and "Pick items" in page.inner_text("#view")
    assert it.errors == []


def test_why_tells_rank_probability_and_path(at):
    it = at()
    page = it.open()
    it.search("red boot")
    page.click(".hit >> nth=0 >> text=Why?")
    page.wait_for_selector("#why table")
    told = page.inner_text("#why")
    assert "It is answer 1." in told and "log-probability" in told
    page.keyboard.press("Escape")
    assert page.is_hidden("#why")
    assert it.errors == []


def test_the_rails_player_steps_through_a_decode(at):
    it = at()
    page = it.open("#rails?q=red+boot")
    page.wait_for_selector(".beam-box")
    steps = int(page.get_attribute("#step", "max"))
    assert "Step 1 of" in page.inner_text("#view") and page.is_disabled("text=Back")
    for step in range(2, steps + 1):
        page.click("text=Next step")
        assert f"Step {step} of {steps}" in page.inner_text("#view")
    assert page.is_disabled("text=Next step")
    page.click("button:text-is('Play')")
    page.wait_for_selector(f"text=Step 2 of {steps}")
    assert page.locator(".beam-box.now").count() >= 1 and page.locator("tr.kept").count() >= 1
    assert page.locator(".beam-box.way").count() == steps  # the way to the best answer, from the start on
    page.click("text=Back")
    assert not re.search(r"[0-9]", page.inner_text(".beam-box.way >> nth=1 >> span[dir]"))  # words, not codes
    page.locator(".beam-box.now").last.click()
    assert "may follow" in page.inner_text(".beam")
    assert it.errors == []


def test_two_engines_side_by_side(at):
    it = at()
    page = it.open("#beside?q=red+boot")
    page.wait_for_selector(".beside .hit")
    assert page.locator(".beside section").count() == 2
    assert page.locator("h2:text-is('shop.genrail')").count() == 1
    assert page.locator("h2:text-is('other.genrail')").count() == 1
    shared = page.locator(".hit.shared").count()
    assert shared % 2 == 0 and f"{shared // 2} item" in page.inner_text("#status")
    assert it.errors == []


def test_the_map_goes_down_to_single_items_and_back(at):
    it = at()
    page = it.open("#map?q=red+boot")
    page.wait_for_selector(".tile.found")
    assert "40 items in" in page.inner_text("#status")
    for _ in range(12):
        if not page.locator(".tile").count():
            break
        page.locator(".tile").first.click()
        it.settled()
    assert page.locator("#view li").count() >= 1
    page.click("text=All items")
    page.wait_for_selector(".tile")
    assert it.errors == []


def test_a_hostile_title_stays_text(at):
    it = at()
    page = it.open("#beside?q=img+onerror+script")
    page.wait_for_selector(".beside .hit")
    for _ in range(3):
        if HOSTILE in page.inner_text("#view"):
            break
        page.fill("#query", HOSTILE)
        it.settled()
    assert HOSTILE in page.inner_text("#view")
    assert "taken" not in page.title().replace(HOSTILE, "") and page.locator("#view img, #view script").count() == 0
    assert it.errors == []


def test_everything_can_be_done_with_the_keyboard(at):
    it = at()
    page = it.open()
    page.keyboard.type("red boot")  # the field has the focus from the start
    page.wait_for_selector(".hit")
    it.settled()
    page.keyboard.press("Escape")
    for _ in range(3):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "tab-search":
            break
    seen = ["search"]
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        it.settled()
        seen.append(page.evaluate("document.querySelector('[aria-selected=true]').id").removeprefix("tab-"))
    assert seen == ["search", "shoppers", "rails", "beside", "map"]
    page.keyboard.press("Home")
    page.wait_for_selector(".hit")
    for _ in range(40):  # past the filters
        page.keyboard.press("Tab")
        if "Pick" in page.evaluate("document.activeElement.textContent"):
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#picks:not([hidden])")
    it.settled()
    assert page.evaluate("document.activeElement.textContent") == "Picked"
    assert it.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1200])
def test_every_view_fits_reads_well_and_is_named(at, width, scheme):
    it = at(width=width, scheme=scheme)
    page = it.open()
    it.search("red boot")
    page.click(".hit >> nth=0 >> text=Pick")
    if width < 900:
        page.click("#filters-toggle")
    for view in ("search", "shoppers", "rails", "beside", "map"):
        page.click(f"#tab-{view}")
        it.settled()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        found = page.evaluate(CONTRAST)
        assert found["seen"] > 10 and found["poor"] == [], view
        assert page.evaluate(NAMELESS) == [], view
        assert serious(page) == [], view
    page.click("#tab-search")
    it.settled()
    page.click(".hit >> nth=0 >> text=Why?")
    page.wait_for_selector("#why table")
    assert page.evaluate("document.querySelector('#why table').offsetHeight") < 700  # no column of single letters
    assert page.evaluate(CONTRAST)["poor"] == []
    assert serious(page) == []
    assert it.errors == []


@pytest.mark.parametrize("width", [375, 1200])
def test_those_who_run_the_server_see_load_latencies_and_versions(at, width):
    it = at(width=width)
    page = it.open()
    it.search("red boot")
    page.goto(f"{it.url}/operate")
    page.wait_for_selector("td:text-is('/v1/search')")
    told = page.inner_text("#view")
    assert "requests a second" in told and "found nothing" in told and "On disk: 1." in told
    assert "red boot" not in told and "--log-queries" in told  # words are kept only where they are asked for
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST)["poor"] == [] and serious(page) == []
    assert it.errors == []


def test_a_server_with_keys_asks_for_one(chromium, tmp_path):
    engine().save(tmp_path / "shop.genrail")
    _, tokens = keys_in(tmp_path, Key("reader"))
    with server(tmp_path / "shop.genrail", "--keys", str(tmp_path / "keys.json")) as (running, _):
        it = Page(chromium, running.url)
        it.page.goto(running.url)
        it.page.wait_for_selector("#key[open]")
        it.page.fill("#key-value", tokens["reader"])
        it.page.click("text=Use this key")
        it.page.wait_for_selector("#engine:has-text('40 items')")
        it.search("red boot")
        assert len(hits(it.page)) == 12
        assert it.page.is_hidden("#trouble")
        assert not re.search(tokens["reader"], it.page.content())
        it.page.context.close()
