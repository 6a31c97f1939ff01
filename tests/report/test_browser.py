"""A report in a real browser: quiet, self-contained, clickable, readable on both themes and on a phone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import streamtrain as st
from streamtrain.block import Block
from streamtrain.report.page import render
from streamtrain.report.run_view import view
from streamtrain.text import printable
from streamtrain.train.config import FitConfig
from streamtrain.train.fit import Training
from streamtrain.train.run import Run

webdriver = pytest.importorskip("selenium.webdriver")
pytest.importorskip("jinja2")
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_CONTRAST = """
const rgb = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
const lum = c => rgb(c).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const ground = lum(getComputedStyle(document.body).backgroundColor);
return [...document.querySelectorAll('p, a, li, th, td, h1, h3, dt, figcaption, summary, svg text, .muted')]
  .map(e => lum(getComputedStyle(e)[e instanceof SVGElement ? 'fill' : 'color']))
  .map(l => (Math.max(l, ground) + .05) / (Math.min(l, ground) + .05)).reduce((a, b) => Math.min(a, b));
"""
_CUT_OFF = """
return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, svg') || e.matches('.scroll'))
  .filter(e => { const box = e.getBoundingClientRect(); return box.right > innerWidth + 1 || box.left < -1; })
  .map(e => e.tagName + '.' + e.className);
"""
_LAST_HEADS = ("tr:last-child", "first"), ("tr:first-child", "last")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("chromium-browser")
    if not driver or not chromium:
        pytest.skip("no chromium with its chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    for option in (*_OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def page(
    report_run: Path, other_run: Path, report_data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two runs side by side, which has all that a page of one has."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    views = [view(run, st.open_shards(report_data[1]), tested="test", runs=2) for run in (report_run, other_run)]
    path.write_text(render(views), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=["short", "long"])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of a run of 62 classes that misreads nearly all of 4,000 rows."""
    folder = tmp_path_factory.mktemp(request.param)
    random, count = np.random.default_rng(7), 62
    labels = np.arange(4000) % count
    rows = np.column_stack([labels, random.integers(0, 256, (4000, 64))])
    np.savetxt(folder / "many.csv", rows, fmt="%d", delimiter=",")
    names = tuple(f"character_{k:02}_ka" if request.param == "long" else str(k) for k in range(count))
    st.convert(folder / "many.csv", folder / "shards", label="first", classes=names)
    shards = st.open_shards(folder / "shards")
    training = Training(st.MLP(64, (9,), count, seed=1), shards, FitConfig())
    Run.create(folder / "run", training, {"data": str(folder / "shards")})
    path = folder / "report.html"
    path.write_text(render([view(folder / "run", shards, tested="shards")]), encoding="utf-8")
    assert path.stat().st_size < 3_000_000
    return path


def show(browser: Any, page: Path, *, width: int = 1100, theme: str = "light") -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get("about:blank")
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(page.as_uri())


def test_it_asks_for_nothing_and_complains_of_nothing(browser: Any, page: Path) -> None:
    show(browser, page)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in sent if not url.startswith("data:")] == [page.as_uri()]
    assert browser.get_log("browser") == []
    assert browser.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")


@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_a_cell_of_the_matrix_shows_its_misread_digits(browser: Any, page: Path, how: str) -> None:
    show(browser, page)
    link = browser.find_element("css selector", ".matrix td.wrong a")
    panel = browser.find_element("id", link.get_attribute("href").split("#")[1])
    assert not panel.is_displayed()
    if how == "mouse":
        link.click()
    else:
        body = browser.find_element("tag name", "body")
        for _ in range(60):
            if browser.switch_to.active_element == link:
                break
            body.send_keys(webdriver.Keys.TAB)
        assert browser.switch_to.active_element == link
        link.send_keys(webdriver.Keys.ENTER)
    assert panel.is_displayed()
    shown = panel.find_elements("tag name", "img")
    assert 1 <= len(shown) <= int(link.text)
    panel.find_element("link text", "close").click()
    assert not panel.is_displayed()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_its_ground_on_both_themes(browser: Any, page: Path, theme: str) -> None:
    show(browser, page, theme=theme)
    grounds = {"light": "rgb(253, 253, 251)", "dark": "rgb(23, 23, 22)"}
    assert browser.find_element("tag name", "body").value_of_css_property("background-color") in (
        grounds[theme],
        grounds[theme].replace("rgb", "rgba").replace(")", ", 1)"),
    )
    assert browser.execute_script(_CONTRAST) >= 4.5  # WCAG 2.2, 1.4.3


@pytest.mark.parametrize("width", [320, 390, 1100])
def test_nothing_is_cut_off(browser: Any, page: Path, width: int) -> None:
    show(browser, page, width=width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(_CUT_OFF) == []


@pytest.mark.parametrize("width", [320, 1100])
def test_a_matrix_of_62_classes_scrolls_in_a_box_that_keeps_its_heads_in_sight(
    browser: Any, many: Path, width: int
) -> None:
    show(browser, many, width=width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(_CUT_OFF) == []
    box = browser.find_element("css selector", ".scroll.box")
    browser.execute_script("arguments[0].scrollIntoView(); arguments[0].scrollTo(9999, 9999)", box)
    last = box.find_element("css selector", "tr:last-child td:last-child")
    row, column = (box.find_element("css selector", f"{tr} th:{th}-child") for tr, th in _LAST_HEADS)
    places = {element: element.rect for element in (box, last, row, column)}
    for head, axis, size in ((row, "x", "width"), (column, "y", "height")):
        assert places[head][axis] == pytest.approx(places[box][axis], abs=2)
        assert places[head][axis] + places[head][size] <= places[last][axis] + 1
    assert places[row]["y"] == pytest.approx(places[last]["y"], abs=2)
    assert places[column]["x"] == pytest.approx(places[last]["x"], abs=2)


def test_a_misread_row_of_62_classes_is_shown_too(browser: Any, many: Path) -> None:
    show(browser, many)
    links = browser.find_elements("css selector", ".matrix td.wrong a")
    assert len(links) > 50
    browser.execute_script("arguments[0].click()", links[-1])
    panel = browser.find_element("id", links[-1].get_attribute("href").split("#")[1])
    assert panel.is_displayed()
    assert panel.find_elements("tag name", "img")


HOSTILE = (
    *("<script>document.title = 'script ran'</script>", "\"'><img src=x onerror=document.title='ran'>"),
    *("{{ 7 * 7 }}", "\u202egnp", "\x1b[2J", "&lt;b&gt;", "javascript:1", "=1+1", "' onclick='1", "</title>"),
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of a run whose folder, data, source and classes have names that a browser could take for markup."""
    folder = tmp_path_factory.mktemp("names") / "<b>'{{ 1 }}\u202e"
    random = np.random.default_rng(7)
    block = Block(random.integers(0, 256, (400, 64), dtype=np.uint8), np.arange(400) % 10, np.arange(1, 401))
    st.write_shards([block], folder / "shards", classes=HOSTILE, source="<i onload=1>\u202e.csv")
    shards = st.open_shards(folder / "shards")
    training = Training(st.MLP(64, (9,), 10, seed=1), shards, FitConfig())
    Run.create(folder / "<u>run", training, {"data": str(folder / "shards"), "test": "\"'><s>", "lr": "<em>"})
    path = folder.parent / "report.html"
    path.write_text(render([view(folder / "<u>run", shards, tested="<tt>&\u202e")]), encoding="utf-8")
    return path


def test_names_are_text_in_the_page_and_its_attributes(browser: Any, hostile: Path) -> None:
    show(browser, hostile)
    shown = [printable(name) for name in HOSTILE]
    assert browser.title == "<u>run: a report of streamtrain"
    assert browser.get_log("browser") == []
    made = "script, img:not([src^='data:']), i[onload], u, s, em, tt"
    assert browser.find_elements("css selector", made) == []
    assert (
        browser.execute_script(
            "return [...document.querySelectorAll('*')].flatMap(e => [...e.attributes]"
            ".map(a => a.name)).filter(name => name.startsWith('on'))"
        )
        == []
    )
    heads = browser.execute_script(
        "return [...document.querySelectorAll('.matrix tr:first-child th')].slice(1).map(e => e.textContent)"
    )
    assert heads == shown
    labels = browser.execute_script(
        "return [...document.querySelectorAll('.misread')].map(e => e.getAttribute('aria-label'))"
    )
    assert labels
    assert {*labels} <= {f"{true} read as {other}" for true in shown for other in shown}
    text = browser.execute_script("return document.documentElement.textContent")
    assert "\u202e" not in text + "".join(labels)
    for path in ("<i onload=1>\\u202e.csv", "<tt>&\\u202e", "<em>"):
        assert path in text
