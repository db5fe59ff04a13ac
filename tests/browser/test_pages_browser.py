# SPDX-License-Identifier: GPL-2.0-only
"""The pages in a real browser: headless Chromium, by the system's own chromedriver."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages_samples import HOSTILE, Page, Place, hostile
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from orchestrator.plain import clean

WIDTHS = (360, 1440)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    driver, program = shutil.which("chromedriver"), shutil.which("chromium")
    assert driver and program, "`make browser` installs chromium and its driver"
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")
    # A Service with a path: selenium looks for no driver, and fetches none.
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = hostile(tmp_path_factory.mktemp("nights"))
    made.write()
    return made


def look(browser: webdriver.Chrome, page: Path, width: int, scheme: str = "light") -> None:
    """Open a page as a screen of this width shows it."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())


def errors(browser: webdriver.Chrome) -> list[str]:
    """What the browser has complained of since it was last asked."""
    found = browser.execute("getLog", {"type": "browser"})["value"]
    return [each["message"] for each in found]


def test_no_error_no_overflow_light_and_dark(browser: webdriver.Chrome, place: Place) -> None:
    campaigns: dict[str, set[str]] = {scheme: set() for scheme in SCHEMES}
    for page, width, scheme in itertools.product(place.pages, WIDTHS, SCHEMES):
        look(browser, page, width, scheme)
        # what is folded away has to fit as well
        browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width, f"{page.name} is {wide} px wide on a screen of {width}"
        assert errors(browser) == [], page.name
        if "Content-Security-Policy" in page.read_text():
            campaign = "return getComputedStyle(document.body).backgroundColor"
            campaigns[scheme].add(browser.execute_script(campaign))
    assert [len(found) for found in campaigns.values()] == [1, 1]
    assert campaigns["light"] != campaigns["dark"]


def test_harm_is_shown_and_not_done(browser: webdriver.Chrome, place: Place) -> None:
    """An open alert would make each of these commands fail."""
    shown = " ".join(clean(HOSTILE).split())
    for page in place.pages:
        if "Content-Security-Policy" not in page.read_text():
            continue
        look(browser, page, 1440)
        assert (
            browser.execute_script("return document.scripts.length + document.images.length") == 0
        )
        text = browser.execute_script("return document.body.textContent")
        assert shown in " ".join(text.split()), page.name


def test_the_policy_forbids_scripts(
    browser: webdriver.Chrome, place: Place, tmp_path: Path
) -> None:
    """Also where escaping had failed."""
    page = tmp_path / "page.html"
    text = (place.path / "index.html").read_text()
    page.write_text(text.replace("</main>", "<script>document.title = 'done'</script></main>"))
    look(browser, page, 360)
    assert browser.title != "done"
    assert any("Content Security Policy" in each for each in errors(browser))


def test_it_is_read_without_scripts(browser: webdriver.Chrome, place: Place) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        look(browser, place.path / place.night.name / "index.html", 360)
        shown = browser.find_element("id", "content").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "New failures" in shown and "reproduce" in shown


def test_links_and_anchors_as_the_browser_reads_them(
    browser: webdriver.Chrome, place: Place
) -> None:
    """The browser's own reading of each address, which has to be a file, and of each fragment."""
    for page in place.pages:
        look(browser, page, 360)
        for address in browser.execute_script("return [...document.links].map(a => a.href)"):
            assert address.startswith("file:///"), address
            found = Page(page)
            found.links = [address.removeprefix("file://")]
            assert found.broken() == []


def test_keys_reach_everything_and_focus_is_seen(browser: webdriver.Chrome, place: Place) -> None:
    look(browser, place.path / place.night.name / "index.html", 1440)
    press = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
    seen = []
    for _ in range(12):
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyDown", **press})
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyUp", **press})
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        assert browser.execute_script(outline) == "solid"
        seen.append(browser.switch_to.active_element.get_attribute("class") or "")
    assert seen[0] == "skip"
    reproduce = "return getComputedStyle(document.querySelector('.copy')).userSelect"
    assert browser.execute_script(reproduce) == "all"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_text_can_be_read(browser: webdriver.Chrome, place: Place, scheme: str) -> None:
    """WCAG AA: a contrast of 4.5 between text and what is behind it."""
    for page in place.pages:
        look(browser, page, 1440, scheme)
        if "Content-Security-Policy" in page.read_text():
            assert browser.execute_script(CONTRAST) == []


CONTRAST = """
const channels = c => c.match(/[\\d.]+/g).map(Number);
const light = c => channels(c).slice(0, 3).map(v => v / 255)
  .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const behind = e => {
  for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor, a = channels(c)[3];
    if (a === undefined || a > 0) return c;
  }
};
const poor = [];
for (const e of document.querySelectorAll('body *:not(svg *)')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) poor.push(`${e.className}: ${ratio.toFixed(2)}`);
}
return [...new Set(poor)];
"""
