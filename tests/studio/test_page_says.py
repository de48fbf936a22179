"""What the page says and refuses, in a real browser; skipped as ``test_page`` is."""

from __future__ import annotations

from selenium import webdriver
from selenium.webdriver.support.ui import Select

from pixelsmith.studio.client import StudioClient
from pixelsmith.studio.serving import StudioServer
from tests.studio.serving import eventually, finished
from tests.studio.test_page import Page, browser, project, pytestmark, studio  # noqa: F401 (fixtures, used by themselves)


def test_the_page_says_when_another_picture_than_the_chosen_one_will_grow(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,  # noqa: F811
    project: dict[str, str],  # noqa: F811
) -> None:
    client = StudioClient(studio.url)
    finished(client, client.start(project["name"], "candidates", seeds=[7]))
    page = Page(browser, f"{studio.url}#/{project['name']}")
    eventually(lambda: page["cost"].text.startswith("300 × 260"))
    assert page["other-grows"].text == ""
    size = Select(page["size-choice"])
    size.select_by_visible_text("Wide 16:9, 3840 × 2160")
    eventually(lambda: page["other-grows"].text == "Another shape: another picture will grow. Show four again.")
    size.select_by_visible_text("Another size")
    field = page.all("[name=size]")[0]
    field.clear()
    field.send_keys("600x520")
    eventually(lambda: page["cost"].text.startswith("600 × 520"))
    assert page["other-grows"].text == "", "the same shape has the same base"
    page["more"].click()
    page.all("[name=preset]")[0].send_keys("Careful")
    eventually(lambda: page["other-grows"].text.startswith("Another quality: another picture will grow"))
    page["candidates"].click()
    page.eventually("#strip img", 5)
    page.all("#strip button")[1].click()
    eventually(lambda: page["other-grows"].text == "")
    assert page.errors() == []
