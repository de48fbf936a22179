"""Clicks, keys and dropped files of people who are in a hurry, in a real browser; skipped as ``test_page`` is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from pixelsmith import RequestError
from pixelsmith.studio.client import StudioClient
from pixelsmith.studio.form import Form
from pixelsmith.studio.library import Library
from pixelsmith.studio.serving import StudioServer
from tests.studio.serving import eventually, finished
from tests.studio.test_page import Page, project, studio  # noqa: F401 (fixtures are used by themselves)
from tests.viewer.test_page import browser, pytestmark  # noqa: F401 (as in test_page)

DROP = """
const [target, name] = arguments;
const canvas = Object.assign(document.createElement("canvas"), { width: 80, height: 60 });
return new Promise((over) => canvas.toBlob((blob) => {
  const data = new DataTransfer();
  if (name) data.items.add(new File([blob], name, { type: "image/png" }));
  else data.items.add("words", "text/plain");
  const options = { dataTransfer: data, bubbles: true, cancelable: true };
  const events = ["dragover", "drop"].map((type) => new DragEvent(type, options));
  over(events.map((event) => target.dispatchEvent(event)));
}));
"""
"""Drops a picture file of 80x60 pixels, or text; returns which events are left to the browser."""


def test_a_double_click_starts_work_once(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,  # noqa: F811
    project: dict[str, str],  # noqa: F811
) -> None:
    page = Page(browser, f"{studio.url}#/{project['name']}")
    eventually(lambda: page["cost"].text)
    ActionChains(browser).double_click(page["candidates"]).perform()
    page.eventually("#strip img", 4)
    browser.execute_script("for (let i = 0; i < 3; i++) document.getElementById('grow').click()")
    page.eventually("#jobs a", 1)
    kinds = [job["kind"] for job in StudioClient(studio.url).project(project["name"])["jobs"]]
    assert kinds == ["candidates", "grow"]
    assert page.errors() == []


def test_what_goes_wrong_on_the_start_page_is_said_there(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,  # noqa: F811
    project: dict[str, str],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(library: Library, form: Form) -> None:
        raise RequestError("the disk is full")

    monkeypatch.setattr(Library, "create", full)
    page = Page(browser, studio.url)
    page.eventually("#projects a", 1)
    page["first-prompt"].send_keys("a map", Keys.ENTER)
    eventually(lambda: page["status"].text == "the disk is full")
    shutil.rmtree(tmp_path / "library" / project["name"])
    browser.execute_script("window.confirm = () => true; document.querySelector('.remove').click()")
    eventually(lambda: page["status"].text == "there is nothing by this name")


def test_a_file_can_be_dropped_anywhere(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,  # noqa: F811
    project: dict[str, str],  # noqa: F811
) -> None:
    client = StudioClient(studio.url)
    page = Page(browser, f"{studio.url}#/{project['name']}")
    eventually(lambda: page["cost"].text)
    prompt = page.all("[name=prompt]")[0]
    assert browser.execute_script(DROP, prompt, "") == [True, True], "text is for the field"
    assert browser.execute_script(DROP, prompt, "photo.png") == [False, False]
    eventually(lambda: page["readout"].text.startswith("80 × 60"))
    eventually(lambda: page["cost"].text.startswith("4619 × 3464"))
    assert client.project(project["name"])["given"]
    page["home"].click()
    eventually(page["first-prompt"].is_displayed)
    page["first-prompt"].send_keys("a harbour")
    assert browser.execute_script(DROP, page["library"], "photo.png") == [False, False]
    eventually(lambda: ("a harbour", "given") in [(one["prompt"], one["picture"]) for one in client.projects()])
    eventually(lambda: page["cost"].text.startswith("4619 × 3464"))
    assert page.errors() == []


def test_arrow_keys_change_the_picture_and_do_not_move_it(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,  # noqa: F811
    project: dict[str, str],  # noqa: F811
) -> None:
    client = StudioClient(studio.url)
    finished(client, client.start(project["name"], "candidates", seeds=[7, 8]))
    page = Page(browser, f"{studio.url}#/{project['name']}?look=0001-candidates:7")
    page.eventually("#strip img", 2)
    page["zoom-in"].click()
    eventually(lambda: "&x=0.500000&" in browser.current_url)
    ActionChains(browser).click(page["picture"]).send_keys(Keys.ARROW_RIGHT).perform()
    eventually(lambda: "0001-candidates%3A8" in browser.current_url)
    centre = "return OpenSeadragon.getViewer(arguments[0]).viewport.getCenter(false).x"
    assert browser.execute_script(centre, page["picture"]) == pytest.approx(0.5)


def test_text_can_be_copied_where_there_is_no_clipboard(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,  # noqa: F811
    project: dict[str, str],  # noqa: F811
) -> None:
    """As in a page of another machine without encryption."""
    page = Page(browser, f"{studio.url}#/{project['name']}")
    eventually(lambda: page["cost"].text)
    browser.execute_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page["copy-command"].click()
    eventually(page["copy"].is_displayed)
    selected = browser.execute_script(
        "const text = document.activeElement; return text.value.slice(text.selectionStart, text.selectionEnd)"
    )
    assert selected.startswith("pixelsmith generate 'a map of <islands>' --size 300x260")
    assert page["wrong"].text == ""


def test_a_failed_preview_can_be_removed(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,  # noqa: F811
    project: dict[str, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    there = Library(tmp_path / "library").project(project["name"])
    failed = there.new("place", there.form, at=(0.5, 0.5), sliders=(0.5,)).created_on_disk()
    replace(failed, state="failed", error="the disk was full").save()
    page = Page(browser, f"{studio.url}#/{project['name']}")
    eventually(lambda: "the disk was full" in page["jobs"].text)
    assert [button.text for button in page.all("#jobs button")] == ["Try again", "Remove"]
    browser.execute_script("window.confirm = () => true")
    page.work("Remove")
    eventually(lambda: page["jobs"].text == "")
    assert not failed.folder.exists()
    assert page.errors() == []
