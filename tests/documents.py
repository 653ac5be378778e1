"""Code blocks of Markdown documents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NOT_RUN = re.compile(r"<!-- not run: .+ -->")


@dataclass(frozen=True)
class Block:
    """One code block.

    Attributes
    ----------
    document : str
        Name of the file.
    line : int
        Of the block's first line of code, from 1.
    language : str
        Of a fenced block; of an indented one by its first word.
    code : str
    is_marked : bool
        Whether the line above the block is a comment `<!-- not run: WHY -->`.
    """

    document: str
    line: int
    language: str
    code: str
    is_marked: bool

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks(path: Path) -> list[Block]:
    """Return the fenced and the indented code blocks of a document, in order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    out, i = [], 0
    while i < len(lines):
        directive = re.fullmatch(r"```\{[\w-]+\}", lines[i])
        fence = re.fullmatch(r"```(\w*)", lines[i])
        if directive:  # of the site, which runs or renders it
            i = lines.index("```", i + 1) + 1
            continue
        if fence:
            end = lines.index("```", i + 1)
            code, first, language = lines[i + 1 : end], i + 1, fence[1]
        elif lines[i].startswith("    ") and (i == 0 or not lines[i - 1].strip()):
            end = next(
                (j for j in range(i, len(lines)) if lines[j].strip() and lines[j][:4] != " " * 4), len(lines)
            )
            code, first = [line[4:] for line in lines[i:end]], i
            language = _language(code[0])
        else:
            i += 1
            continue
        above = next((line for line in reversed(lines[:i]) if line.strip()), "")
        text = "\n".join(code).rstrip() + "\n"
        out.append(Block(path.name, first + 1, language, text, bool(NOT_RUN.fullmatch(above))))
        i = end + 1
    return out


def _language(line: str) -> str:
    word = line.split(maxsplit=1)[0]
    if word in ("from", "import"):
        return "python"
    if word in ("nwb-migvis", "pip", "git", "python3", ".ci/run", "pytest"):
        return "sh"
    return "toml" if word.startswith("[") else ""
