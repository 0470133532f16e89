"""The page of a sentence in a real browser: it opens without a network, complains of nothing, and answers the mouse."""

import re
import shutil

import numpy as np
import pytest

from seq2seq.inspection.report import inspect_sentence
from seq2seq.inspection.sentence_page import write_sentence_page

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="Needs chromium and chromedriver."),
]

WIDTH = 1280


@pytest.fixture(scope="module")
def found(make_random_model):
    return inspect_sentence(make_random_model("gru"), "the old cat sees the dog", "la kato maljuna vidas la hundo")


@pytest.fixture(scope="module")
def browser(found, tmp_path_factory):
    """Open the page from its file with the network off."""
    from selenium import webdriver

    page = write_sentence_page(tmp_path_factory.mktemp("page") / "page.html", found, "model.keras")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={WIDTH},900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        driver.set_network_conditions(offline=True, latency=0, throughput=0)
        driver.get(page.as_uri())
        yield driver
    finally:
        driver.quit()


def figure_of(browser, anchor):
    return browser.find_element("id", f"figure-{anchor}")


def hovered(browser, figure, across, down):
    """Read what a figure says where the mouse is, at shares of its width and height."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.support.wait import WebDriverWait

    plot = figure.find_element("class name", "nsewdrag")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
    box = plot.rect
    mouse = ActionChains(browser).move_to_element_with_offset(
        plot, round((across - 0.5) * box["width"]), round((down - 0.5) * box["height"])
    )
    # Two moves: one that stays where the mouse was is none.
    mouse.move_by_offset(1, 0).perform()
    says = WebDriverWait(browser, 20).until(lambda _: figure.find_elements("css selector", ".hoverlayer .nums"))[0]
    return [line.text for line in says.find_elements("class name", "line")]


def test_it_opens_without_a_network_and_without_complaint(browser):
    drawn = browser.find_elements("xpath", "//section[.//*[contains(@class, 'main-svg')]]")
    # Memory, gradients and gates are tables.
    assert len(drawn) == len(browser.find_elements("tag name", "section")) - 3 > 5
    assert browser.get_log("browser") == []


def test_the_page_uses_the_width_of_the_window(browser):
    assert browser.execute_script("return document.documentElement.scrollWidth") <= WIDTH
    boxes = [figure.rect for figure in browser.find_elements("class name", "js-plotly-plot")]
    assert max(box["x"] + box["width"] for box in boxes) > 0.9 * WIDTH
    sections = {section.get_attribute("id"): section.rect for section in browser.find_elements("tag name", "section")}
    for box, figure in zip(boxes, browser.find_elements("class name", "js-plotly-plot"), strict=True):
        section = sections[figure.get_attribute("id").removeprefix("figure-")]
        assert box["x"] + box["width"] <= section["x"] + section["width"] + 1


def test_contents_lead_to_sections(browser):
    link = browser.find_element("css selector", "nav a[href='#gradients']")
    link.click()
    assert browser.current_url.endswith("#gradients")
    assert browser.execute_script("return document.querySelector(':target').id") == "gradients"


@pytest.mark.parametrize("field", ["state", "update"])
def test_the_mouse_tells_token_unit_gate_and_value(browser, found, field):
    name = "encoder.backward_0"
    layer = found.trace.layers[name]
    figure = figure_of(browser, name)
    for button in figure.find_elements("class name", "updatemenu-button"):
        if button.text == field:
            button.click()
    steps, units = layer.values[field].shape
    step, place = 2, 3
    unit = np.argsort(-found.half_lives[name], kind="stable")[place]
    lines = hovered(browser, figure, (place + 0.5) / units, (step + 0.5) / steps)
    value = layer.values[field][step, unit]
    assert lines == [f"token {layer.tokens[step]}", f"unit {unit}", f"{field} {value:.3f}"]


def test_markup_in_a_token_is_text(browser):
    texts = figure_of(browser, "alignment").find_elements("css selector", ".ytick text")
    assert [text.text for text in texts][-1] == "</s>"
    assert not [text for text in texts if re.search("&|lt;", text.text)]
