"""Tutorials run from their first cell to their last, and links between documents lead somewhere."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
LINKED = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks" / "README.md"})

CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def cells(path: Path) -> list[str]:
    """Return the code of each cell, without options and magic commands."""
    found = CELL.findall(path.read_text(encoding="utf-8"))
    return ["\n".join(x for x in cell.splitlines() if not x.startswith((":", "%"))) for cell in found]


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path):
    plt = pytest.importorskip("matplotlib.pyplot")
    if "spikeinterface" in path.read_text(encoding="utf-8"):
        pytest.importorskip("spikeinterface")
    namespace: dict[str, object] = {}
    with warnings.catch_warnings():
        for i, code in enumerate(cells(path)):
            exec(compile(code, f"{path.name}, cell {i}", "exec"), namespace)
    plt.close("all")


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {text.strip().replace(" ", "-") for text in words}


@pytest.mark.parametrize("path", LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        place, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", place):
            continue
        to = (path.parent / place).resolve() if place else path
        assert to.exists(), f"{path.name} links to {link}"
        if anchor and to.suffix == ".md":
            assert anchor in anchors(to), f"{path.name} links to {link}"


def test_absent_places_are_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b`: c\n[x](absent.md)\n")
    assert anchors(page) == {"a-b-c"} and LINK.findall(page.read_text()) == ["absent.md"]
