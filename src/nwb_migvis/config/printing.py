"""Settings in a few lines: what differs from the preset."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from nwb_migvis.plain import plain

_MAX_CHARACTERS = 110


def config_lines(config: Any, preset: Any) -> list[str]:
    """Return one line that names the preset, then one per table of settings that differs from it.

    Parameters
    ----------
    config, preset : Config
    """
    return [_head(config), *(_shorten(f"  {text}") for text in _changes(config, preset))]


def config_html(config: Any, preset: Any) -> str:
    """Return the same as HTML."""
    items = "".join(f"<li>{escape(_shorten(text))}</li>" for text in _changes(config, preset))
    return f"<div><strong>{escape(_head(config))}</strong><ul>{items}</ul></div>"


def _head(config: Any) -> str:
    return f"Config of preset {config.preset!r}"


def _changes(config: Any, preset: Any) -> list[str]:
    """Return, for each table of settings, the ones that differ from the preset's."""
    values, defaults = plain(config), plain(preset)
    tables = {name: table for name, table in values.items() if isinstance(table, Mapping)}
    own = {name: value for name, value in values.items() if name not in tables}
    texts = [_differences(own, defaults)]
    for name, table in tables.items():
        text = _differences(table, defaults[name])
        texts.append(f"{name}: {text}" if text else "")
    return [text for text in texts if text] or ["no setting differs from it"]


def _differences(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} = {_text(value)}" for name, value in values.items() if value != defaults.get(name)
    )


def _text(value: Any) -> str:
    """Return a value in short; a table with a name and a size (a latent group) by these."""
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, Mapping) and "name" in value and "size" in value:
        return f"{value['name']} ({value['size']})"
    return repr(value)


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 4]} ..."
