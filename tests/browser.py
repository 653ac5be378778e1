"""A page in headless Chromium, where the browser and playwright are installed."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def needs_browser() -> None:
    """Skip a test where there is no browser."""
    if CHROMIUM is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("Chromium or the package playwright is not installed")


def axe_script() -> str:
    """Return the script of axe-core, which checks accessibility; skip where it is not installed."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("the package axe-playwright-python is not installed")
    return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@contextmanager
def opened(path: Path, *, width: int = 1280, bypass_csp: bool = False) -> Iterator[tuple[Any, list[str]]]:
    """Open a page; yield it with what went wrong: console messages, errors, and requests that it made."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": width, "height": 900}, bypass_csp=bypass_csp)
        page, faults = context.new_page(), []
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(("data:", "file:")) else faults.append(request.url)
            ),
        )
        page.goto(path.absolute().as_uri())
        yield page, faults
        browser.close()


def use(path: Path, *, has_edits: bool = True) -> None:
    """Use a report as its readers do: slider, groups, theme, a small screen; fail for what goes wrong."""
    with opened(path) as (view, faults):
        if has_edits:
            steps = "document.querySelectorAll('.group:not([hidden]) .step:not([hidden]) img')"
            shown = f"[...{steps}].map(i => i.src)"
            before = view.evaluate(shown)
            view.focus("input[type=range]")
            view.keyboard.press("ArrowLeft")
            assert before and not {*before} & {*view.evaluate(shown)}
        view.select_option("#group-choice", index=1)
        assert view.evaluate("document.querySelector('.group:not([hidden])').id") == "group-2"
        theme = view.evaluate("document.documentElement.dataset.theme")
        view.click("#theme")
        assert view.evaluate("document.documentElement.dataset.theme") != theme
        assert faults == []
    axe = axe_script()
    with opened(path, width=390, bypass_csp=True) as (view, faults):
        assert view.evaluate("document.documentElement.scrollWidth") <= 390
        view.evaluate(axe)
        assert [violation["id"] for violation in view.evaluate("axe.run()")["violations"]] == []
        assert faults == []
