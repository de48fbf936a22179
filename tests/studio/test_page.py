"""The page in a real browser; skipped if there is no browser, or if the page was not built."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from pixelsmith.studio.client import StudioClient
from pixelsmith.studio.serving import StudioServer
from tests.studio.serving import eventually, finished, serving
from tests.viewer.test_page import browser, pytestmark  # noqa: F401 (a fixture and a mark are used by themselves)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[StudioServer]:
    with serving(tmp_path / "library") as found:
        yield found


@pytest.fixture
def project(studio: StudioServer, tiny_model: Path) -> dict[str, str]:
    found: dict[str, str] = StudioClient(studio.url).create(
        {"prompt": "a map of <islands>", "model": str(tiny_model), "size": "300x260", "seed": 7}
    )
    return found


class Page:
    """The page, driven through its visible controls."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url
        driver.get("about:blank")
        # What a page before said, whose server has ended, is not of this one.
        driver.get_log("browser")  # type: ignore[no-untyped-call]
        driver.get(url)

    def __getitem__(self, name: str) -> webdriver.remote.webelement.WebElement:
        return self.driver.find_element(By.ID, name)

    def all(self, selector: str) -> list[webdriver.remote.webelement.WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def work(self, text: str) -> None:
        """Press the first button of this name in the list of jobs, which changes during work."""

        def pressed() -> bool:
            try:
                self.driver.find_element(By.XPATH, f"//ol[@id='jobs']//button[text()='{text}']").click()
            except (NoSuchElementException, StaleElementReferenceException):
                return False
            return True

        eventually(pressed)

    def drag(self, *points: tuple[int, int]) -> None:
        """Drag from one point to the next, in screen pixels from the centre of the picture."""
        actions = ActionChains(self.driver)
        actions.move_to_element_with_offset(self["picture"], *points[0]).click_and_hold()
        for point in points[1:]:
            actions.move_to_element_with_offset(self["picture"], *point)
        actions.release().perform()

    def eventually(self, selector: str, count: int) -> None:
        eventually(lambda: len(self.all(selector)) == count)

    def errors(self) -> list[str]:
        said = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in said if entry["level"] == "SEVERE"]


def test_from_a_prompt_to_a_picture_and_a_comparison(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,
    project: dict[str, str],
) -> None:
    page = Page(browser, f"{studio.url}#/{project['name']}")
    eventually(lambda: page["cost"].text.startswith("300 × 260"))
    assert page["title"].text == "a map of <islands>"
    page["candidates"].click()
    page.eventually("#strip img", 4)
    page.all("#strip button")[2].click()
    seed = page.all("#strip button")[2].text
    eventually(lambda: browser.execute_script("return document.forms.make.seed.value") == seed)

    page["try"].click()
    ActionChains(browser).move_to_element(page["picture"]).click().perform()
    page.eventually("#crops img", 3)
    page.all("#crops button")[0].click()
    assert not page["place"].is_displayed()
    assert page["slider-value"].text == "0.25"

    page["grow"].click()
    page.eventually("#jobs a", 1)
    page.eventually("#strip img", 5)
    page.all("#strip button")[4].click()
    eventually(lambda: page["readout"].text.startswith("300 × 260"))
    grown = StudioClient(studio.url).project(project["name"])["jobs"][-1]
    assert (grown["form"]["seed"], grown["form"]["slider"]) == (int(seed), 0.25)

    Select(page["other"]).select_by_index(1)
    eventually(page["divider"].is_displayed)

    def compared(mode: str) -> bool:
        beside = page["second"].is_displayed()
        return page["mode"].get_attribute("value") == mode and beside == (mode == "beside")

    def kept(mode: str) -> bool:
        return compared(mode) and f"mode={mode}" in browser.current_url

    assert page["name-first"].text.startswith("picture 1")
    assert page["name-second"].text.startswith("seed ")
    page.press("1")
    eventually(lambda: page["readout"].text == "300 × 260 · 100 %")
    eventually(lambda: "with=" in browser.current_url)
    # The address keeps a place where the picture has come to rest: 300 pixels of the screen for its width.
    shown = browser.execute_script("return document.getElementById('picture').clientWidth")
    eventually(lambda: f"&w={shown / 300:.6f}&" in browser.current_url)
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    root = studio.url.split("?")[0]
    assert all(name.startswith((root, "data:")) for name in asked)
    assert page.errors() == []

    for mode in ("beside", "flicker", "divider"):
        page.press("c")
        eventually(partial(kept, mode))
        link = browser.current_url
        Page(browser, link)
        eventually(lambda: page["readout"].text)
        time.sleep(0.5)
        assert (page["readout"].text, browser.current_url) == ("300 × 260 · 100 %", link)
        assert compared(mode)


def test_a_region_with_a_painted_map_is_made_again_and_restored(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,
    project: dict[str, str],
    tmp_path: Path,
) -> None:
    client, name = StudioClient(studio.url), project["name"]
    page = Page(browser, f"{studio.url}#/{name}")
    eventually(lambda: page["cost"].text.startswith("300 × 260"))
    page["add-region"].click()
    assert "Choose a picture first" in page["wrong"].text
    finished(client, client.start(name, "candidates", seeds=[7]))
    page.eventually("#strip img", 1)
    eventually(lambda: page["readout"].text)

    page["add-region"].click()
    page.drag((-60, -60), (40, 50))
    page["tool-prompt"].send_keys("a forest")
    page["tool-done"].click()
    page.eventually("#regions li", 1)
    assert not page["tool"].is_displayed()
    page["paint"].click()
    eventually(lambda: browser.execute_script("return document.getElementById('tool-done').disabled") is False)
    page.all("#tool [data-tool=free]")[0].click()
    page.drag((-40, 0), (60, 20))
    page["tool-done"].click()
    eventually(page["painted"].is_displayed)
    kept = client.project(name)
    painted = np.asarray(Image.open(tmp_path / "library" / name / kept["map"]).convert("L"))
    assert painted.min() < 5, "where the brush freed"
    assert np.median(painted) == 128, "the Slider elsewhere"

    page["grow"].click()
    page.eventually("#jobs a", 1)
    (job,) = [one for one in client.project(name)["jobs"] if one["kind"] == "grow"]
    assert job["map"] == kept["map"]
    (region,) = job["form"]["regions"]
    assert region["prompt"] == "a forest"
    (left, top), (right, bottom) = region["polygon"][0], region["polygon"][2]
    assert 0 < left < right < 100
    assert 0 < top < bottom < 100

    page.work("Redo a place")
    page.all("#tool [data-tool=lasso]")[0].click()
    page.drag((-50, -40), (60, 0), (-30, 70))
    page["tool-prompt"].clear()
    page["tool-prompt"].send_keys("a lake", Keys.ENTER)
    page.eventually("#jobs a", 2)
    eventually(lambda: "version 2" in page["jobs"].text)
    again = client.project(name)["jobs"][-1]
    assert (again["form"]["prompt"], again["state"]) == ("a lake", "done")
    page.work("Compare")
    eventually(page["divider"].is_displayed)
    assert "version 2" in page["name-first"].text
    page.work("Undo")
    eventually(lambda: client.job(again["id"])["undone"])
    assert client.job(job["id"])["file"]
    page.work("Use this one")
    eventually(lambda: not client.job(again["id"])["undone"])
    assert page.errors() == []


def test_a_large_picture_is_paused_and_resumed(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,
    project: dict[str, str],
) -> None:
    page = Page(browser, f"{studio.url}#/{project['name']}")
    eventually(lambda: page["cost"].text.startswith("300 × 260"))
    Select(page["size-choice"]).select_by_visible_text("Another size")
    size = browser.find_element(By.NAME, "size")
    size.clear()
    size.send_keys("big")
    eventually(lambda: "size: expected" in page["wrong"].text)
    assert not page["grow"].is_enabled()
    size.clear()
    size.send_keys("900x800")
    eventually(lambda: page["cost"].text.startswith("900 × 800"))
    page["grow"].click()
    page.eventually("#strip img", 1)
    eventually(lambda: "Pause" in page["jobs"].text and "%" in page["jobs"].text)
    page.work("Pause")
    eventually(lambda: "paused at" in page["jobs"].text)
    assert StudioClient(studio.url).project(project["name"])["jobs"][0]["state"] == "paused"
    page.work("Resume")
    eventually(lambda: "Pause" in page["jobs"].text)
    page.work("Pause")
    eventually(lambda: "paused at" in page["jobs"].text)


def test_a_start_picture_is_added_and_removed(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,
    project: dict[str, str],
    tmp_path: Path,
) -> None:
    Image.effect_noise((80, 60), 40).convert("RGB").save(tmp_path / "photo.png")
    page = Page(browser, f"{studio.url}#/{project['name']}")
    eventually(lambda: page["cost"].text)
    page["file"].send_keys(str(tmp_path / "photo.png"))
    page.eventually("#strip img", 1)
    eventually(lambda: page["readout"].text.startswith("80 × 60"))
    assert not page["candidates"].is_displayed()
    page["take-back"].click()
    eventually(page["candidates"].is_displayed)
    page.eventually("#strip img", 0)


def test_the_page_fits_a_phone(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,
    project: dict[str, str],
) -> None:
    screen = {"width": 375, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        page = Page(browser, studio.url)
        page["first-prompt"].send_keys("x")
        page.eventually("#projects a", 1)
        page.all("#projects a")[0].send_keys(Keys.ENTER)
        eventually(lambda: page["cost"].text)
        assert browser.execute_script("return document.documentElement.scrollWidth") == 375
        for button in page.all("#make button, #view button"):
            if button.is_displayed():
                assert button.rect["x"] >= 0
                assert button.rect["x"] + button.rect["width"] <= 375
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
