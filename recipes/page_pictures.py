"""Take the pictures of the web page that the documents show: a server's five views, on a desk and on a phone.

    genrail demo --out demo-shop
    genrail serve demo-shop/shop.genrail --beside other.genrail
    python recipes/page_pictures.py http://127.0.0.1:8000 docs/pictures

Needs playwright and a Chromium (`apt-get install chromium`).
"""

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

QUERY = "waterproof boots"
VIEWS = ("search", "shoppers", "rails", "beside", "map")
DEVICES = {"desktop": (1200, 900), "phone": (375, 812)}


def take(page: Page, url: str, folder: Path, device: str) -> None:
    """Take one picture of each view."""
    page.goto(url)
    page.wait_for_selector("#examples button")
    page.fill("#query", QUERY)
    page.wait_for_selector(".hit")
    page.wait_for_timeout(500)
    for place in (0, 3):
        page.click(f".hit >> nth={place} >> text=Pick")
        page.wait_for_timeout(500)
    for view in VIEWS:
        page.click(f"#tab-{view}")
        page.wait_for_timeout(700)
        if view == "rails":
            page.click("text=Next step")
        page.screenshot(path=folder / f"page-{view}-{device}.png")
    page.click("#tab-search")
    page.wait_for_timeout(500)
    page.click(".hit >> nth=0 >> text=Why?")
    page.wait_for_selector("#why table")
    page.screenshot(path=folder / f"page-why-{device}.png")


def main() -> None:
    """Take all pictures."""
    url, folder = sys.argv[1].rstrip("/"), Path(sys.argv[2])
    words = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=words)
        for device, (width, height) in DEVICES.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="light")
            take(context.new_page(), url, folder, device)
        browser.close()
    print(f"{len(DEVICES) * (len(VIEWS) + 1)} pictures of {url} in {folder}")


if __name__ == "__main__":
    main()
