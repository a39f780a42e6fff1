"""A person at a real browser: headless Chromium on a chat page."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
SHOTS = os.environ.get("NIGHTSCHOOL_SHOTS")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
]

MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and its driver"),
    # selenium leaves sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@dataclass
class Page:
    """A browser on the page of a bot, and what a person does with it."""

    browser: Any
    bot: Any
    address: str
    name: str = "Lamplight"

    def open(self, width: int = 1100, height: int = 800) -> None:
        self.browser.set_window_size(width, height)
        self.browser.get(self.address)
        self.wait(lambda: self.text("#name") == self.name and self.count("#log[aria-busy=false]"))

    def all(self, css: str) -> list[Any]:
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def count(self, css: str) -> int:
        return len(self.all(css))

    def texts(self, css: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((x) => x.textContent)"
        return self.browser.execute_script(script, css)

    def text(self, css: str) -> str:
        return "|".join(self.texts(css))

    def drawn(self) -> str:
        """The end of the log as it stands, without pictures."""
        script = "return document.getElementById('log').innerHTML.replace(/<svg.*?<[/]svg>/g, '').slice(-1500)"
        return str(self.browser.execute_script(script))

    def places(self, css: str) -> list[tuple[float, float]]:
        """Where each begins, at one moment: an element that was found may be drawn anew before it is asked."""
        found = "[...document.querySelectorAll(arguments[0])].map((x) => x.getBoundingClientRect())"
        script = f"return {found}.map((box) => [box.x, box.y])"
        return [(x, y) for x, y in self.browser.execute_script(script, css)]

    def wait(self, true: Callable[[], Any], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not self._seen(true):
            assert time.monotonic() < end, f"not seen in time; the page says: {self.drawn()}"
            time.sleep(0.03)

    @staticmethod
    def _seen(true: Callable[[], Any]) -> bool:
        try:
            return bool(true())
        except StaleElementReferenceException:  # drawn anew in between
            return False

    def say(self, text: str) -> None:
        self.all("#text")[0].send_keys(text, Keys.ENTER)

    def click(self, css: str) -> None:
        self.wait(lambda: self._clicked(f"{css}:not(:disabled):not([aria-disabled])"))

    def _clicked(self, css: str) -> bool:
        try:
            found = self.all(css)
            if found:
                found[-1].click()
        except StaleElementReferenceException:  # drawn anew in between
            return False
        return bool(found)

    def choose(self, css: str, value: str) -> None:
        """Pick an option of a select."""
        Select(self.all(css)[0]).select_by_value(value)

    def value(self, css: str) -> str:
        """What a field holds."""
        return str(self.browser.execute_script("return document.querySelector(arguments[0]).value", css))

    def offer(self) -> None:
        """Ask for two replies and wait until both are there."""
        self.say("two")
        self.wait(lambda: self.count(".offer.open .card.pickable") == 2)

    def shot(self, name: str) -> None:
        if SHOTS:
            time.sleep(0.4)  # transitions
            Path(SHOTS).mkdir(exist_ok=True)
            self.browser.save_screenshot(f"{SHOTS}/{name}.png")

    def media(self, **features: str) -> None:
        told = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": told})

    def phone(self) -> None:
        size = {"width": 390, "height": 780, "deviceScaleFactor": 2, "mobile": True}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def new_browser(folder: Path, language: str) -> Any:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f"--user-data-dir={folder}", f"--accept-lang={language}"]:
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))
