"""The page in a real browser; skipped if there is no browser, or if the page was not built."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from pixelsmith import Compute, Method, Request, Size, generate, resume
from pixelsmith.events import Event
from pixelsmith.viewer import PictureServer
from tests.stopping import stop_at

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
BUILT = (files("pixelsmith.viewer") / "page" / "openseadragon.min.js").is_file()
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER and BUILT), reason="needs Chromium and 'make viewer'")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,700"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def request_for(model: Path) -> Request:
    return Request(
        "a map of <islands>", Size(1200, 800), model=str(model), method=Method(steps=1, guidance_scale=1),
        compute=Compute("cpu", "float32"),
    )  # fmt: skip


@contextmanager
def serving(path: Path) -> Iterator[str]:
    with PictureServer(path) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def url(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the viewer with a finished run of two stages."""
    folder = tmp_path_factory.mktemp("viewed")
    generate(request_for(tiny_model), folder / "map.png", run_dir=folder / "run")
    with serving(folder / "run") as found:
        yield found


def eventually(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 180
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def opened(browser: webdriver.Chrome, url: str) -> None:
    browser.get("about:blank")
    browser.get(url)
    eventually(lambda: browser.execute_script("return layers.length && layers[0].item.getFullyLoaded()"))


def zoom(browser: webdriver.Chrome) -> float:
    return float(browser.execute_script("return viewer.viewport.getZoom(false)"))


def zoomed_to(browser: webdriver.Chrome, expected: float) -> None:
    eventually(lambda: zoom(browser) == pytest.approx(expected, rel=1e-3))


def kept_width(browser: webdriver.Chrome) -> float:
    """The width of the view in the page's address; not a number before there is one."""
    fragment = parse_qs(urlsplit(browser.current_url).fragment)
    return float(fragment.get("w", ["nan"])[0])


def test_the_page_opens_without_external_requests_and_without_errors(browser: webdriver.Chrome, url: str) -> None:
    opened(browser, url)
    assert browser.title == "a map of <islands> – Pixelsmith"
    said = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert [entry for entry in said if entry["level"] == "SEVERE"] == []
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert any("/tile/" in name for name in asked)
    assert all(name.startswith((url, "data:")) for name in asked)


def test_buttons_and_keys_zoom_and_show_the_settings(browser: webdriver.Chrome, url: str) -> None:
    opened(browser, url)
    before = zoom(browser)
    browser.find_element(By.ID, "zoom-in").click()
    eventually(lambda: zoom(browser) > 1.5 * before)
    browser.find_element(By.TAG_NAME, "body").send_keys("0")
    eventually(lambda: abs(zoom(browser) - before) < 1e-3)
    for key, after in (("+", 1.6), ("=", 1.6**2), ("-", 1.6)):
        browser.find_element(By.TAG_NAME, "body").send_keys(key)
        zoomed_to(browser, after * before)
    panel = browser.find_element(By.ID, "settings")
    assert not panel.is_displayed()
    browser.find_element(By.TAG_NAME, "body").send_keys("i")
    assert "a map of <islands>" in panel.text
    assert "slider" in panel.text
    browser.find_element(By.ID, "about").send_keys(Keys.ENTER)
    assert not panel.is_displayed()


def test_only_the_documented_keys_work_after_a_click_on_the_picture(browser: webdriver.Chrome, url: str) -> None:
    """OpenSeadragon has its own keys to flip, rotate, move and zoom."""
    opened(browser, url)
    home = zoom(browser)
    ActionChains(browser).click(browser.find_element(By.ID, "picture")).send_keys("+").perform()
    eventually(lambda: zoom(browser) > home)
    time.sleep(0.3)
    assert zoom(browser) == pytest.approx(1.6 * home, rel=1e-3), "once, not twice"
    ActionChains(browser).send_keys("0").perform()
    zoomed_to(browser, home)
    ActionChains(browser).send_keys("fsrwadjk").perform()
    still = "return [viewer.viewport.getFlip(), viewer.viewport.getRotation(), viewer.viewport.getCenter(false).x]"
    time.sleep(0.3)
    flipped, turned, x = browser.execute_script(still)
    assert (flipped, turned) == (False, 0)
    assert x == pytest.approx(0.5, abs=1e-6)
    assert browser.execute_script("return Boolean(document.fullscreenElement)"), "F is the page's own"
    browser.execute_script("return document.exitFullscreen()")


def test_the_address_keeps_the_view(browser: webdriver.Chrome, url: str) -> None:
    opened(browser, url)
    home = zoom(browser)
    browser.find_element(By.ID, "zoom-in").click()
    # Opening moves the view as well: the address is awaited that keeps what the click led to.
    eventually(lambda: kept_width(browser) == pytest.approx(1 / (1.6 * home), rel=1e-3))
    link, before = browser.current_url, zoom(browser)
    opened(browser, link)
    assert zoom(browser) == pytest.approx(before, rel=1e-3)


def test_the_divider_compares_two_stages_at_the_same_place(browser: webdriver.Chrome, url: str) -> None:
    opened(browser, url)
    divider = browser.find_element(By.ID, "divider")
    assert not divider.is_displayed()
    chooser = Select(browser.find_element(By.ID, "other"))
    assert [option.text.split(",")[0] for option in chooser.options] == ["nothing", "base", "stage 1"]
    chooser.select_by_index(1)
    eventually(divider.is_displayed)

    def edge() -> float:
        script = "const clip = layers[1].item.getClip(); return clip.width / layers[1].item.getContentSize().x"
        return float(browser.execute_script(script))

    eventually(lambda: abs(edge() - 0.5) < 0.01)
    ActionChains(browser).drag_and_drop_by_offset(divider, -200, 0).perform()
    eventually(lambda: edge() < 0.4)
    dragged = edge()
    divider.send_keys(Keys.ARROW_LEFT)
    assert edge() < dragged
    opened(browser, browser.current_url)
    assert browser.find_element(By.ID, "divider").is_displayed(), "the link keeps the comparison"


def test_the_page_fits_a_phone(browser: webdriver.Chrome, url: str) -> None:
    # A window of the browser cannot be as narrow.
    screen = {"width": 375, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        opened(browser, url)
        width = browser.execute_script("return window.innerWidth")
        assert width == 375
        for button in browser.find_elements(By.CSS_SELECTOR, "button:not([hidden])"):
            assert button.is_displayed()
            assert button.rect["x"] >= 0
            assert button.rect["x"] + button.rect["width"] <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def status_of(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.ID, "status").text


def test_a_running_picture_is_updated_in_the_open_page(
    browser: webdriver.Chrome, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        generate(
            request_for(tiny_model), tmp_path / "map.png", stop_at(stage=2, phase="decode", done=1), tmp_path / "run"
        )
    version = "return layers[0].version"
    with serving(tmp_path / "run") as found:
        opened(browser, found)
        before = browser.execute_script(version)
        assert "fills in" in status_of(browser)
        resume(tmp_path / "run")
        eventually(lambda: browser.execute_script(version) != before)
        eventually(lambda: status_of(browser) == "")
        eventually(lambda: browser.execute_script("return viewer.world.getItemCount()") == 1)
        eventually(lambda: browser.execute_script("return layers[0].item.getFullyLoaded()"))


def test_the_page_waits_for_a_run_without_pictures(browser: webdriver.Chrome, tiny_model: Path, tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    request = replace(request_for(tiny_model), size=Size(100, 80))
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "map.png", interrupt, tmp_path / "run")
    with serving(tmp_path / "run") as url:
        browser.get(url)
        eventually(lambda: "waits" in status_of(browser))
        resume(tmp_path / "run")
        eventually(lambda: browser.execute_script("return layers.length && layers[0].item.getFullyLoaded()"))


def test_a_picture_that_wraps_is_shown_repeated(browser: webdriver.Chrome, tiny_model: Path, tmp_path: Path) -> None:
    request = replace(request_for(tiny_model), size=Size(320, 160), wrap="x")
    generate(request, tmp_path / "ring.png", run_dir=tmp_path / "run")
    with serving(tmp_path / "run") as url:
        opened(browser, url)
        toggle = browser.find_element(By.ID, "tiled")
        home = zoom(browser)
        toggle.click()
        eventually(lambda: browser.execute_script("return viewer.world.getItemCount()") == 2)
        bounds = "const at = viewer.world.getItemAt(arguments[0]).getBounds(); return [at.x, at.y, at.width]"
        (left, top, width), (right, level, _) = (browser.execute_script(bounds, i) for i in (0, 1))
        assert (right, level) == (pytest.approx(left + width), pytest.approx(top))
        zoomed_to(browser, home / 2)
        toggle.click()
        eventually(lambda: browser.execute_script("return viewer.world.getItemCount()") == 1)


def test_a_picture_that_does_not_wrap_is_shown_once(browser: webdriver.Chrome, url: str) -> None:
    opened(browser, url)
    assert not browser.find_element(By.ID, "tiled").is_displayed()
