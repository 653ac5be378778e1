"""Rules of the house that a test can hold: short signatures, short modules, documents that tell the truth."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import nwb_migvis

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
PACKAGES = ("nwb_migvis", "ndx_migvis")

MAX_PARAMETERS = 7
MAX_POSITIONAL = 4
MAX_LINES = 450

PUBLIC = ("run", "read_session", "simulate_session", "synthesize_more")
"""Functions whose many keywords are what a user writes."""


def long_signatures(source: str) -> Iterator[str]:
    """Yield the functions of a module that take too many parameters, with their numbers.

    `self`, `cls`, the `ctx` of torch's functions and commands of the command line (decorated by
    click) do not count.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        a = node.args
        positional = [p.arg for p in (*a.posonlyargs, *a.args) if p.arg not in ("self", "cls", "ctx")]
        n = len(positional) + len(a.kwonlyargs)
        is_command = any("command" in ast.unparse(decorator) for decorator in node.decorator_list)
        if node.name in PUBLIC or is_command:
            continue
        if n > MAX_PARAMETERS or len(positional) > MAX_POSITIONAL:
            yield f"{node.name}, line {node.lineno}: {n} parameters, {len(positional)} of them positional"


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (SOURCE / package).rglob("*.py"))


def package_of(path: Path) -> str:
    package, first, *_ = path.relative_to(SOURCE).parts
    return first.removesuffix(".py") if package == "nwb_migvis" else package


def offenders(path: Path) -> list[str]:
    """Return what breaks the rules in one module."""
    source = path.read_text(encoding="utf-8")
    place = path.relative_to(SOURCE).as_posix()
    n_lines = len(source.splitlines())
    long = [f"{place}: {n_lines} lines"] if n_lines > MAX_LINES else []
    return [*long, *(f"{place}: {text}" for text in long_signatures(source))]


@pytest.mark.skipif(not SOURCE.is_dir(), reason="the source tree is absent")
@pytest.mark.parametrize("package", sorted({package_of(path) for path in modules()}))
def test_signatures_and_modules_are_short(package):
    assert [text for path in modules() if package_of(path) == package for text in offenders(path)] == []


def test_long_signatures_are_seen():
    source = "def f(self, a, b, c, d, e): ...\ndef g(a, *, b, c, d, e, f, g): ...\n"
    source += "def h(a, b, *, c, d, e, f, g, h): ...\ndef run(a, b, c, d, e, f, g, h): ...\n"
    source += "@cli.command()\ndef i(a, b, c, d, e): ...\n"
    assert [text.split(",")[0] for text in long_signatures(source)] == ["f", "h"]


def test_contributing_names_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = [
        word for word in re.findall(r"`([^`\s]+)`", text) if re.search(r"/|\.(py|md|toml|txt|nwb)$", word)
    ]
    assert len(named) > 10
    for word in named:
        assert (ROOT / word).exists(), f"CONTRIBUTING.md names {word}"


def test_the_package_says_that_it_is_typed():
    assert (Path(nwb_migvis.__file__).parent / "py.typed").is_file()
