"""The page shows how the bot's other platforms stand, and a login's QR code, in a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from adapters.base import Health
from tests.bots.test_platform_health import LINK, Moody, add
from tests.browsers import MARKS, new_browser

pytestmark = MARKS
Running = Callable[..., AbstractAsyncContextManager[Any]]


async def test_a_login_code_comes_and_goes_on_the_page(running: Running, tmp_path: Path) -> None:
    bots = [{"name": "tester", "adapters": ["web"]}]
    async with running(bots=bots, adapters={"web": {"port": 0}}) as app:
        add(app, Moody())
        browser = await asyncio.to_thread(new_browser, tmp_path / "chromium", "en-US")
        try:
            await asyncio.to_thread(browser.get, app.server.url)
            await asyncio.to_thread(browser.find_element(By.ID, "school").click)
            host = app.platforms.host("tester", "moody")
            host.report(Health("login", "the old login is over", qr=LINK))
            code = await _found(browser, ".platforms .qr svg")
            assert await asyncio.to_thread(lambda: code.size["width"] > 100)
            assert await asyncio.to_thread(lambda: code.accessible_name) == "Scan to log in"
            assert await asyncio.to_thread(lambda: browser.find_element(By.ID, "text").is_displayed())
            covered = "return document.elementFromPoint(60, 60).closest('.platforms') !== null"
            assert not await asyncio.to_thread(browser.execute_script, covered)
            host.report(Health("online"))
            await _found(browser, ".platforms .is-online")
            assert await asyncio.to_thread(browser.find_elements, By.CSS_SELECTOR, ".qr") == []
        finally:
            await asyncio.to_thread(browser.quit)


async def _found(browser: Any, selector: str) -> Any:
    wait = WebDriverWait(browser, 20)
    return await asyncio.to_thread(wait.until, lambda driver: driver.find_element(By.CSS_SELECTOR, selector))
