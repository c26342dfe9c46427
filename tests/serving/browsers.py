"""A real browser for the tests of the page, or the reason why there is none."""

import os
import shutil
from contextlib import contextmanager

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Contrast of every text with what lies behind it, by WCAG 2.2: gives those below their bar.
CONTRAST = """() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = ([r, g, b]) => {
    const part = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
  const behind = (element) => { for (; element; element = element.parentElement) {
    const found = parse(getComputedStyle(element).backgroundColor); if (found[3] > 0.99) return found; }
    return [255, 255, 255, 1]; };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility() || element.closest('svg, noscript, .skip')) continue;
    const style = getComputedStyle(element);
    const [one, two] = [light(parse(style.color)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    seen += 1;
    if (ratio < (large ? 3 : 4.5)) poor.push(`${node.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return { seen, poor };
}"""

# Whatever can be used must have a name that a screen reader can say.
NAMELESS = """() => [...document.querySelectorAll('button, input, select, [role=tab], [role=img]')]
  .filter((each) => each.checkVisibility())
  .filter((each) => !(each.getAttribute('aria-label') || each.textContent.trim() || each.labels?.length
    || each.getAttribute('aria-labelledby')))
  .map((each) => each.outerHTML.slice(0, 120))"""


def serious(page):
    """List what axe-core finds that keeps people out of a page at rest: rule and the first element."""
    page.wait_for_selector("main:not([aria-busy])")  # answers are dimmed while new ones are asked for
    page.evaluate("Promise.all(document.getAnimations().map((each) => each.finished.catch(() => 0))).then(() => 0)")
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="pip install axe-core-python")
    found = axe.Axe().run(page)["violations"]
    grave = [each for each in found if each["impact"] in ("serious", "critical")]
    return [f"{each['id']}: {each['nodes'][0]['html'][:160]}" for each in grave]


def path_of_browser():
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


@contextmanager
def browser():
    """Start a headless Chromium of this system; skip the test where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    path = path_of_browser()
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed: apt-get install chromium")
    with playwright.sync_playwright() as running:
        # Chromium has no sandbox for root, which is what containers run tests as.
        words = ["--no-sandbox"] if os.geteuid() == 0 else []
        started = running.chromium.launch(executable_path=path, args=[*words, "--disable-gpu"])
        try:
            yield started
        finally:
            started.close()


class Page:
    """Hold a page of the browser, and all that went wrong in it."""

    def __init__(self, browser, url, width=1200, height=900, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(20_000)
        self.page = context.new_page()
        self.errors, self.asked = [], []
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.url = url

    def open(self, tail=""):
        self.page.goto(f"{self.url}/{tail}")
        self.page.wait_for_selector("#engine:not(:text('…'))")
        return self.page

    def search(self, words):
        self.page.fill("#query", words)
        self.page.wait_for_selector(".hit")
        self.settled()

    def settled(self):
        """Wait until nothing is being asked."""
        self.page.wait_for_timeout(250)
        self.page.wait_for_selector("main:not([aria-busy])")
