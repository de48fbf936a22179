"""A picture that changes while it is shown, in a real browser; skipped as ``test_page`` is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.support.ui import Select

from pixelsmith.pixels.zoomable import Zoomable
from pixelsmith.studio import looks
from pixelsmith.studio.jobs import Job
from pixelsmith.studio.library import Library
from pixelsmith.studio.serving import StudioServer
from pixelsmith.web.tiles import tile_of
from tests.studio.serving import eventually
from tests.studio.test_page import Page, project, studio  # noqa: F401 (fixtures are used by themselves)
from tests.viewer.test_page import browser, pytestmark  # noqa: F401 (as in test_page)

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 200, 30), "yellow": (200, 200, 30)}
SOON = 25.0
"""Seconds: less than the page waits for the tiles of a picture that grows."""


@pytest.fixture
def job(studio: StudioServer, project: dict[str, str], tmp_path: Path) -> Job:  # noqa: F811
    """Finished candidates of one colour each: 1 is red, 2 blue, 3 yellow."""
    there = Library(tmp_path / "library").project(project["name"])
    job = replace(there.new("candidates", there.form, seeds=(1, 2, 3)).created_on_disk(), state="done", share=1.0)
    job.save()
    for seed, colour in enumerate(("red", "blue", "yellow"), 1):
        painted(job, seed, colour)
    return job


def painted(job: Job, seed: int, colour: str) -> None:
    Image.new("RGB", (69, 60), COLOURS[colour]).save(job.picture_of(seed))


class Held:
    """Tiles of one colour, which are not served before ``free`` is set."""

    def __init__(self, colour: str) -> None:
        self.colour, self.asked, self.free = colour, threading.Event(), threading.Event()

    def tile_of(self, source: Zoomable, *place: int) -> bytes:
        tile = tile_of(source, *place)
        if named(Image.open(BytesIO(tile)).convert("RGB"), 0.5, 0.5) == self.colour:
            self.asked.set()
            self.free.wait(90)
        return tile


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    found = Held("green")
    monkeypatch.setattr(looks, "tile_of", found.tile_of)
    yield found
    found.free.set()


def named(image: Image.Image, across: float, down: float) -> str:
    """The name of the colour at a place in shares of an image."""
    pixel = image.getpixel((int(across * image.width), int(down * image.height)))
    assert isinstance(pixel, tuple)
    return min(COLOURS, key=lambda name: sum(abs(a - b) for a, b in zip(pixel, COLOURS[name], strict=True)))


def sides(page: Page) -> tuple[str, str]:
    """The colours on the left and on the right of the divider."""
    seen = Image.open(BytesIO(page["picture"].screenshot_as_png)).convert("RGB")
    return named(seen, 0.3, 0.5), named(seen, 0.7, 0.5)


def looked_at_anew(page: Page) -> None:
    """As after a while in which nobody saw the page."""
    page.driver.execute_script("document.dispatchEvent(new Event('visibilitychange'))")


def test_a_picture_that_grows_stays_below_the_compared_one_and_holds_up_no_click(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,  # noqa: F811
    job: Job,
    held: Held,
) -> None:
    page = Page(browser, f"{studio.url}#/{job.project}?look={job.folder.name}:1")
    page.eventually("#strip img", 3)
    Select(page["other"]).select_by_visible_text("seed 2")

    def shows(*colours: str) -> bool:
        return sides(page) == colours

    eventually(partial(shows, "blue", "red"), SOON)
    painted(job, 1, "green")
    looked_at_anew(page)
    assert held.asked.wait(SOON)
    assert shows("blue", "red"), "until the new one is there"
    page.all("#strip button")[2].click()
    eventually(partial(shows, "blue", "yellow"), SOON)
    held.free.set()
    page.all("#strip button")[0].click()
    eventually(partial(shows, "blue", "green"), SOON)
    painted(job, 1, "yellow")
    looked_at_anew(page)
    eventually(partial(shows, "blue", "yellow"), SOON)
    assert page.errors() == []
