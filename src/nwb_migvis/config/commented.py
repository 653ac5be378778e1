"""Settings as TOML with a comment above each: what it means, as its record's documentation says."""

from __future__ import annotations

import re
import textwrap
from dataclasses import fields, is_dataclass
from typing import Any

from nwb_migvis.plain import plain

_WIDTH = 98
_HEADS = {
    "split": "Which images train the models and which test them.",
    "latents": "Latent groups and the model that finds them. Name groups of your own as [[latents.groups]].",
    "prior": "The diffusion prior over images.",
    "critic": "The critic that scores images against latents of each group.",
    "synthesis": "Edits of shown images.",
    "evidence": "Statistics.",
    "companions": "Further analyses, where `analyses` names some.",
}
_GROUP = """# Without groups of your own: one of all numbers, one per category, two free ones.
# [[latents.groups]]
# name = "pose"
# labels = ["rotation_x", "rotation_y"]
# size = 6"""


def commented_toml(config: Any) -> str:
    """Return every setting as TOML that can be read back, with a comment above each.

    Parameters
    ----------
    config : Config
    """
    lines = [
        f"# Every setting of nwb-migvis, with the values of the preset {config.preset!r}.",
        "# Keep the lines that you change and delete the others: what is absent keeps the preset's value.",
        "",
        *_settings(config),
    ]
    for field in fields(config):
        record = getattr(config, field.name)
        if is_dataclass(record):
            lines += ["", *_comment(_HEADS.get(field.name, "")), f"[{field.name}]", *_settings(record)]
            if field.name == "latents":
                lines += _groups(record)
    return "\n".join(lines) + "\n"


def _settings(record: Any) -> list[str]:
    """Return the lines of one table."""
    said = _documented(type(record))
    lines = []
    for field in fields(record):
        value = getattr(record, field.name)
        if not is_dataclass(value) and field.name != "groups":
            lines += [*_comment(said.get(field.name, "")), _line(field.name, plain(value))]
    return lines


def _line(name: str, value: Any) -> str:
    """Return one setting on one line, a table in braces."""
    import tomli_w

    if isinstance(value, dict):
        inside = ", ".join(_line(key, item) for key, item in value.items())
        return f"{name if name.isidentifier() else repr(name)} = {{{inside}}}"
    text = " ".join(tomli_w.dumps({name: value}).split())
    return text.replace("[ ", "[").replace(", ]", "]")


def _groups(record: Any) -> list[str]:
    """Return the groups as tables; where there are none, what one would look like."""
    import tomli_w

    if not record.groups:
        return ["", _GROUP]
    return ["", tomli_w.dumps({"latents": {"groups": plain(record.groups)}}).split("[latents]\n")[-1].strip()]


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]


def _documented(kind: type) -> dict[str, str]:
    """Return what the docstring of a record says about each of its settings."""
    said: dict[str, str] = {}
    names: list[str] = []
    for line in textwrap.dedent(kind.__doc__ or "").splitlines():
        head = re.fullmatch(r"    (\w[\w, ]*) : .*", line)
        if head:
            names = [name.strip() for name in head[1].split(",")]
        elif line.startswith("        ") and names:
            for name in names:
                said[name] = f"{said.get(name, '')} {line.strip()}".strip()
        elif line.strip():
            names = []
    return said
