"""Take the pictures of the web page that the documents show: each view on a desk and on a phone, and a short tour.

    genrail demo --out demo-shop
    genrail serve demo-shop/shop.genrail --beside other.genrail --log-queries
    python recipes/page_pictures.py http://127.0.0.1:8000 docs/pictures

Needs playwright, Pillow and a Chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

QUERY = "waterproof boots"
VIEWS = ("search", "shoppers", "rails", "beside", "map")
DEVICES = {"desktop": (1200, 900), "phone": (375, 812)}
TOUR = (1000, 700)
COLOURS = 128


def settled(page: Page) -> None:
    """Wait until nothing is asked, and what is told afterwards has come."""
    page.wait_for_timeout(300)
    page.wait_for_selector("main:not([aria-busy])")
    page.wait_for_timeout(1500)


def opened(browser: Browser, url: str, size: tuple[int, int]) -> Page:
    """Open the page, with its examples."""
    width, height = size
    page = browser.new_context(viewport={"width": width, "height": height}, color_scheme="light").new_page()
    page.goto(url)
    page.wait_for_selector("#examples button")
    return page


def take(page: Page, url: str, folder: Path, device: str) -> int:
    """Take one picture of each view; give how many."""
    page.fill("#query", QUERY)
    page.wait_for_selector(".hit")
    settled(page)
    for place in (0, 3):
        page.click(f".hit >> nth={place} >> text=Pick")
        settled(page)
    views = [view for view in VIEWS if page.locator(f"#tab-{view}").is_visible()]
    for view in views:
        page.click(f"#tab-{view}")
        settled(page)
        if view == "rails":
            page.click("text=Next step")
        page.screenshot(path=folder / f"page-{view}-{device}.png")
    page.click("#tab-search")
    settled(page)
    page.click(".hit >> nth=0 >> text=Why?")
    page.wait_for_selector("#why >> text=It is answer")
    page.screenshot(path=folder / f"page-why-{device}.png")
    page.goto(f"{url}/operate")
    page.wait_for_selector("table")
    page.screenshot(path=folder / f"page-operate-{device}.png")
    return len(views) + 2


def tour(page: Page, path: Path) -> None:
    """Record some twenty seconds: words, filters, why, what is next for a shopper, how an identifier is written."""
    frames: list[tuple[bytes, int]] = []

    def shoot(milliseconds: int) -> None:
        frames.append((page.screenshot(), milliseconds))

    shoot(1200)
    for end in (5, 10, len(QUERY)):
        page.fill("#query", QUERY[:end])
        settled(page)
        shoot(2500 if end == len(QUERY) else 500)
    page.fill("input[aria-label='price, at most']", "100")
    settled(page)
    shoot(2000)
    page.click(".hit >> nth=0 >> text=Why?")
    page.wait_for_selector("#why >> text=It is answer")
    shoot(3000)
    page.keyboard.press("Escape")
    for place in (0, 1):
        page.click(f".hit >> nth={place} >> text=Pick")
        settled(page)
    page.click("#tab-shoppers")
    settled(page)
    shoot(2500)
    page.click("#tab-rails")
    settled(page)
    steps = int(page.get_attribute("#step", "max") or 1)
    for step in range(min(steps, 4)):
        shoot(1400)
        if step + 1 < steps:
            page.click("text=Next step")
    page.click("#tab-map")
    settled(page)
    shoot(2500)
    # One palette of all frames' colours, so that nothing flickers.
    pictures = [Image.open(io.BytesIO(shot)).convert("RGB") for shot, _ in frames]
    width, height = pictures[0].size
    sheet = Image.new("RGB", (width, height * len(pictures)))
    for place, picture in enumerate(pictures):
        sheet.paste(picture, (0, place * height))
    palette = sheet.quantize(COLOURS, dither=Image.Dither.NONE)
    drawn = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    times = [milliseconds for _, milliseconds in frames]
    drawn[0].save(path, save_all=True, append_images=drawn[1:], duration=times, loop=0, optimize=True)


def main() -> None:
    """Take all pictures."""
    url, folder = sys.argv[1].rstrip("/"), Path(sys.argv[2])
    words = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=words)
        taken = sum(take(opened(browser, url, size), url, folder, device) for device, size in DEVICES.items())
        tour(opened(browser, url, TOUR), folder / "page-tour.gif")
        browser.close()
    print(f"{taken} pictures and a tour of {url} in {folder}")


if __name__ == "__main__":
    main()
