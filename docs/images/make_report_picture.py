"""Draw docs/images/report.png: the top of a run's report in headless Chromium.

python docs/images/make_report_picture.py runs/demo/student
"""

import argparse
import pathlib
import shutil
import tempfile
import time

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars")
LARGEST = 200_000


def draw(report: pathlib.Path, picture: pathlib.Path, width: int = 1100, height: int = 1000) -> None:
    """Photograph the first screen of the report and write it as a small PNG."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            browser.get(report.resolve().as_uri())
            time.sleep(3)  # the figures draw themselves
            browser.save_screenshot(str(picture))
        finally:
            browser.quit()
    Image.open(picture).convert("RGB").quantize(128).save(picture, optimize=True)
    if (size := picture.stat().st_size) > LARGEST:
        raise SystemExit(f"{picture} has {size:,} bytes, more than {LARGEST:,}: lower the height.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=pathlib.Path, help="a finished run folder")
    draw(parser.parse_args().run / "report.html", pathlib.Path(__file__).with_name("report.png"))
