"""The picture of `mdm view` in the documentation: a digit, explained on the page.

    python experiments/figures/view_figure.py                 # a minute on 2 CPU cores
    python experiments/figures/view_figure.py --out elsewhere.png

Photographed in headless Chromium, which must be on the path, through Playwright.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import PIL.Image
import tyro

from mdm_jax.data import Digits
from mdm_jax.images import to_uint8

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Milliseconds that a page may take, compilation included.
PATIENCE = 300_000


@dataclass(frozen=True)
class Config:
    """What is photographed."""

    digit: int = 3
    """of the test set"""
    size: tuple[int, int] = (1280, 780)
    """width and height of the window, pixels"""
    out: Path = Path(__file__).parents[2] / "docs" / "images" / "view.png"


def draw(config: Config) -> str:
    """The page of a digit once it is explained; returns why not, or nothing."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return f"no browser: install one of {', '.join(BROWSERS)}"
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "digit.png"
        PIL.Image.fromarray(to_uint8(Digits("test")[config.digit].image)).save(photo)
        words = ["view", str(photo), "--port", "0"]
        command = [sys.executable, "-m", "mdm_jax", *words]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            said = next(line for line in server.stderr if "the page is at" in line)
            address = next(word for word in said.split() if word.startswith("http"))
            try:
                _photograph(browser, address, config)
            finally:
                server.terminate()
    return ""


def _photograph(browser: str, address: str, config: Config) -> None:
    from playwright.sync_api import sync_playwright

    width, height = config.size
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        page = opened.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        page.get_by_role("button", name="Run").click()
        page.get_by_text("Done.").wait_for()
        page.screenshot(path=config.out)
        opened.close()


if __name__ == "__main__":
    sys.exit(draw(tyro.cli(Config)) or 0)
