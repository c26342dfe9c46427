"""What people can do on the page, in a real browser: with a mouse, a keyboard, a phone, a hostile catalogue."""

import re
from contextlib import ExitStack

import pytest

from genrail.catalog import Catalog
from genrail.serving.keys import Key
from tests.serving.browsers import CONTRAST, NAMELESS, Page, browser
from tests.serving.clients import keys_in
from tests.serving.processes import server
from tests.shops import build, engine, pasts, shop

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
    assert len(hits(page)) == 24
    assert page.url.endswith("#search?q=red+boot")
    assert all(asked.startswith(url) for asked in it.asked)
    assert not any("boot" in asked for asked in it.asked)  # words travel in bodies, never in addresses
    assert it.errors == []


def test_filters_made_of_the_attributes_hold(at):
    it = at()
    page = it.open()
    it.search("boot")
    page.click("#filters-toggle")
    page.fill("input[aria-label='price, at most']", "30")
    page.select_option("select:near(label:text-is('colour'))", "red")
    it.settled()
    found = hits(page)
    assert found and all(int(one[1:]) % 4 == 0 and int(one[1:]) <= 20 for one in found)
    page.fill("#filter-text", "price <")
    page.wait_for_selector("#trouble:not([hidden])")
    page.fill("#filter-text", "in_stock")
    page.wait_for_selector("#trouble", state="hidden")
    it.settled()
    assert set(hits(page)) == {one for one in found if int(one[1:]) % 3}
    assert [error for error in it.errors if "422" not in error] == []


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
    page.wait_for_selector(".beam")
    steps = int(page.get_attribute("#step", "max"))
    assert "Step 1 of" in page.inner_text("#view") and page.is_disabled("text=Back")
    for step in range(2, steps + 1):
        page.click("text=Next step")
        assert f"Step {step} of {steps}" in page.inner_text("#view")
    assert page.is_disabled("text=Next step")
    page.click("button:text-is('Play')")
    page.wait_for_selector(f"text=Step 2 of {steps}")
    assert page.locator("svg.rails circle.now").count() >= 1 and page.locator("tr.kept").count() >= 1
    assert "removed" in page.inner_text(".beam >> nth=0")
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
    assert page.title() == "genrail" and page.locator("#view img, #view script").count() == 0
    assert it.errors == []


def test_everything_can_be_done_with_the_keyboard(at):
    it = at()
    page = it.open()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("red boot")
    page.wait_for_selector(".hit")
    it.settled()
    for _ in range(12):
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
    for _ in range(3):
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
    page.click("#filters-toggle")
    for view in ("search", "shoppers", "rails", "beside", "map"):
        page.click(f"#tab-{view}")
        it.settled()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        found = page.evaluate(CONTRAST)
        assert found["seen"] > 10 and found["poor"] == [], view
        assert page.evaluate(NAMELESS) == [], view
    page.click("#tab-search")
    it.settled()
    page.click(".hit >> nth=0 >> text=Why?")
    page.wait_for_selector("#why table")
    assert page.evaluate("document.querySelector('#why table').offsetHeight") < 700  # no column of single letters
    assert page.evaluate(CONTRAST)["poor"] == []
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
