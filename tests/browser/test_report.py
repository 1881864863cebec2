"""Opens the page as a reader does: from disk, in a browser, without a network."""

import pathlib
import random
import runpy
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tutelage import report

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
TESTS = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = runpy.run_path(str(TESTS / "report" / "run_folder.py"))
SMALL = {
    "segmentation": ["student.arguments={encoder_depth: 3, decoder_channels: [16, 8, 8]}"],
    "detection": ["data.batch_size=4", "student.arguments={channels: 64}"],
    "super_resolution": ["data.patch=24", "data.patches=3", "student.arguments={blocks: 2, width: 8}"],
}
"""Task -> what makes a run of it short."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium: apt-get install chromium chromium-driver")
    selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install 'tutelage[dev]'")
    from selenium.webdriver.chrome.service import Service

    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = selenium.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


def _open(browser, file, *, width=1280, scheme="light"):
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    theme = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", theme)
    browser.get(file.as_uri())
    for fold in browser.find_elements("css selector", "details > summary"):
        fold.click()
    _wait(browser, "return [...document.querySelectorAll('.drawing')].every(d => d.querySelector('.main-svg'))")


def _wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda page: page.execute_script(condition))


def _check(browser, plots):
    """Plots hold drawn marks, no script failed, no network was asked, no table is empty, the page fits the screen."""
    marks = browser.execute_script(
        "return [...document.querySelectorAll('.js-plotly-plot')].map(plot => "
        "plot.querySelectorAll('.scatterlayer path[d], .barlayer path[d], .heatmaplayer image').length)"
    )
    assert len(marks) == plots
    assert min(marks) > 0
    failed = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert failed == []
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in asked if not name.startswith(("data:", "blob:"))] == []
    rows = browser.execute_script(
        "return [...document.querySelectorAll('table')].map(table => table.tBodies[0].rows.length)"
    )
    assert rows
    assert min(rows) > 0
    # A phone zooms out until all fits: its window is as wide as the page then.
    root = "document.documentElement"
    assert browser.execute_script(f"return {root}.scrollWidth - {root}.clientWidth") <= 0


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_a_run_is_drawn_on_any_screen(browser, tmp_path, width, scheme):
    _open(browser, report.write([FOLDERS["write_run"](tmp_path / "a")]), width=width, scheme=scheme)
    _check(browser, plots=8)
    assert browser.save_screenshot(str(tmp_path / f"{width}-{scheme}.png"))


def test_the_sections_of_compared_runs_are_drawn_when_they_are_opened(browser, tmp_path):
    write = FOLDERS["write_run"]
    runs = [write(tmp_path / "a"), write(tmp_path / "b", seeds=3), write(tmp_path / "c", baseline=False)]
    runs.append(FOLDERS["interrupt"](write(tmp_path / "d")))
    _open(browser, report.write(runs))
    _check(browser, plots=1 + 3 * 8 + 5)


def test_a_class_name_that_looks_like_markup_is_read_as_it_is_written(browser, tmp_path):
    _open(browser, report.write([FOLDERS["write_run"](tmp_path / "a", classes=["cat", "<b>dog</b>"])]))
    ticks = browser.execute_script(
        "return [...document.querySelectorAll('#run1-classes .ytick text')].map(tick => tick.textContent)"
    )
    assert ticks == ["cat", "<b>dog</b>"]


def test_the_figures_follow_the_page_into_the_dark(browser, tmp_path):
    _open(browser, report.write([FOLDERS["write_run"](tmp_path / "a")]))
    ink = "return getComputedStyle(document.querySelector('#run1-classes .ytick text')).fill"
    light = browser.execute_script(ink)
    theme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", theme)
    _wait(browser, f"{ink} !== {light!r}")


def test_a_bench_and_weights_by_class_are_drawn(browser, tmp_path):
    _open(browser, report.write_bench(FOLDERS["write_board"](tmp_path / "bench")))
    _check(browser, plots=3)
    run = FOLDERS["add_by_class"](FOLDERS["write_run"](tmp_path / "a"))
    _open(browser, report.write([run]))
    _check(browser, plots=9)


def _draw(task, root):
    """A small data set of a dense task, and the name of a network for it."""
    root.mkdir()
    if task == "super_resolution":
        for number in range(12):
            pixels = torch.randint(256, (72, 80, 3), dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(root / f"{number}.png")
        return "sr/edsr"
    tests = runpy.run_path(str(TESTS / "cli" / f"test_{task}.py"))
    for seed, (split, count) in enumerate({"train": 8, "val": 4, "test": 4}.items()):
        tests["draw"](root, split, count, random.Random(seed) if task == "detection" else seed)
    return tests["NET"]


@pytest.mark.parametrize(("task", "plots"), [("segmentation", 6), ("detection", 5), ("super_resolution", 4)])
def test_a_dense_task_shows_its_pictures_and_what_each_model_makes_of_them(browser, tutelage, tmp_path, task, plots):
    net = _draw(task, tmp_path / "data")
    given = ["--task", task, "--student", net, "--teacher", f"big={net}", "--data", tmp_path / "data", "--force"]
    short = [word for told in ("train.epochs=1", *SMALL[task]) for word in ("--set", told)]
    code, _, said = tutelage("distill", *given, *short, "--out", tmp_path / "run")
    assert code == 0, said
    _open(browser, tmp_path / "run" / "report.html", width=390)
    _check(browser, plots=plots)
    seen = browser.execute_script(
        "return [...document.querySelectorAll('.pictures figure')].map(figure => [...figure.querySelectorAll('img')]"
        ".map(image => [image.alt, image.naturalHeight, image.naturalWidth, image.src]))"
    )
    stored = load_file(tmp_path / "run" / "evaluation.safetensors")
    sides = [list(stored[name].shape[2:]) for name in ("pictures/image", "pictures/panel/truth")]
    assert len(seen) == len(stored["pictures/position"]) > 0
    for picture, truth, *panels in seen:
        assert truth[0] == "truth"
        assert {"teacher big", "baseline", "student"} <= {panel[0].partition(" · ")[0] for panel in panels}
        assert picture[1:3] == sides[0]
        assert all(panel[1:3] == sides[1] for panel in (truth, *panels))
        assert truth[3] != picture[3]
