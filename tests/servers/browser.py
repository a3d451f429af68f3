"""A real browser, headless: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright


def why_not() -> str:
    """Why there is no browser here, "" if there is one."""
    return "" if shutil.which("chromium") else "Chromium is not installed (tests/setup-services installs it)"


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Chromium without a window. Nothing that it shows may need a network: none is let through but loopback."""
    # As root Chromium refuses its own sandbox; the pages shown are our own.
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[*alone, "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"],
        )
        yield browser
        browser.close()
