"""Templates become text, and text a file."""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from nwb_migvis.errors import MigvisError
from nwb_migvis.store import temporary_path


def render(template: str, **content: Any) -> str:
    """Return a page; whatever comes from files is escaped, and only our own style and script may act."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("nwb_migvis.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = files("nwb_migvis.report") / "templates"
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template(template).render(
        **content,
        version=version("nwb-migvis"),
        style=style,
        script=script,
        style_digest=_digest(style),
        script_digest=_digest(script),
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def write_text(out: Path, text: str) -> None:
    """Write a page whole or not at all.

    Raises
    ------
    MigvisError
        If it cannot be written there.
    """
    temporary = temporary_path(out)
    try:
        try:
            with temporary.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise MigvisError(f"{out}: {error.strerror}; give another --out") from None
