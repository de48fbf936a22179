"""What the page says and refuses, in a real browser; skipped as ``test_page`` is."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import Select

from pixelsmith.studio.client import StudioClient
from pixelsmith.studio.serving import StudioServer
from tests.studio.serving import eventually, finished
from tests.studio.test_page import Page, project, studio  # noqa: F401 (fixtures are used by themselves)
from tests.viewer.test_page import browser, pytestmark  # noqa: F401 (as in test_page)


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


def test_a_given_picture_keeps_its_shape_and_a_cut_is_said(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,  # noqa: F811
    project: dict[str, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    Image.effect_noise((80, 60), 40).convert("RGB").save(tmp_path / "photo.png")
    page = Page(browser, f"{studio.url}#/{project['name']}")
    eventually(lambda: page["cost"].text.startswith("300 × 260"))
    page["file"].send_keys(str(tmp_path / "photo.png"))
    eventually(lambda: page["cost"].text.startswith("4619 × 3464"))
    size = Select(page["size-choice"])
    assert size.first_selected_option.text == "As your picture, 16 megapixels"
    size.select_by_visible_text("Another size")
    field = page.all("[name=size]")[0]
    field.clear()
    field.send_keys("160x160")
    eventually(lambda: page["cost"].text.startswith("160 × 160"))
    page["grow"].click()
    page.eventually("#jobs a", 1)
    said = page.all("#jobs .warnings li")[0].text
    assert said.startswith("Your picture has 80x60 pixels, the result 160x160: 25% of the picture is cut off")
    assert page.errors() == []


def test_a_place_with_a_painted_map_has_one_preview(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,  # noqa: F811
    project: dict[str, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    client = StudioClient(studio.url)
    Image.linear_gradient("L").resize((150, 130)).save(tmp_path / "map.png")
    client.paint(project["name"], tmp_path / "map.png")
    finished(client, client.start(project["name"], "candidates", seeds=[7]))
    page = Page(browser, f"{studio.url}#/{project['name']}")
    eventually(lambda: page["readout"].text and page["cost"].text)
    page["try"].click()
    ActionChains(browser).move_to_element(page["picture"]).click().perform()
    page.eventually("#crops img", 1)
    assert page["crops"].text == "as painted"
    assert page.all("#crops figure button") == []
    assert len(client.project(project["name"])["jobs"][-1]["sliders"]) == 1
    assert page.errors() == []


def test_the_candidate_with_the_seed_of_the_form_is_shown_first(
    browser: webdriver.Chrome,  # noqa: F811
    studio: StudioServer,  # noqa: F811
    project: dict[str, str],  # noqa: F811
) -> None:
    client = StudioClient(studio.url)
    finished(client, client.start(project["name"], "candidates", seeds=[7, 8]))
    page = Page(browser, f"{studio.url}#/{project['name']}")
    page.eventually("#strip img", 2)
    eventually(lambda: page["cost"].text)
    assert [thumb.text for thumb in page.all("#strip [aria-current=true]")] == ["7"]
    page["more"].click()
    page["random"].click()
    eventually(lambda: page["other-grows"].text == "Another seed: another picture will grow. Choose this one again.")
    page.all("#strip button")[0].click()
    eventually(lambda: page["other-grows"].text == "")
    assert page.errors() == []
