"""How a run is made again: the command, and the settings that differ from its preset."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from nwb_migvis.config import PRESETS, Config
from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.plain import plain
from nwb_migvis.plot.recorded import table
from nwb_migvis.results import Results

_OPTIONS = {
    "images": "--images",
    "labels": "--labels",
    "where": "--where",
    "units": "--units",
    "window_s": "--window",
    "layout": "--layout",
    "stimulus": "--stimulus",
    "resize_px": "--resize",
    "channel_order": "--channel-order",
    "index_base": "--index-base",
}
_FLAGS = {"allow_outside": "--allow-outside", "allow_long_window": "--allow-long-window"}


def command(results: Results) -> str:
    """Return the command that makes the run again, given its settings as `migvis.toml` and its files."""
    inputs = results.provenance.get("inputs")
    listed = inputs if isinstance(inputs, list) else []
    files = [str(table(one).get("path") or "SESSION.nwb") for one in listed] or ["SESSION.nwb"]
    words = ["nwb-migvis", "run", *(PurePosixPath(file).name for file in files), "--config", "migvis.toml"]
    if results.name != "migvis":
        words += ["--name", results.name]
    reading = table(results.provenance, "reading")
    for key, option in _OPTIONS.items():
        value = reading.get(key)
        if isinstance(value, list):
            words += [option, *map(str, value)]
        elif value not in (None, ""):
            words += [option, str(value)]
    words += [option for key, option in _FLAGS.items() if reading.get(key) is True]
    if isinstance(reading.get("merge_repeats"), bool):
        words.append("--merge-repeats" if reading["merge_repeats"] else "--no-merge-repeats")
    return " ".join(shlex.quote(printable(word)) for word in words)


def settings(results: Results) -> str:
    """Return what differs from the preset as TOML; "" where the file does not record readable settings."""
    import tomli_w

    try:
        config = Config.from_stored(table(results.provenance, "config"))
    except MigvisError:
        return ""
    values = plain(config)
    preset = plain(PRESETS[config.preset])
    return tomli_w.dumps({"preset": config.preset, **_differing(values, preset)})


def _differing(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if value == usual[key]:
            continue
        is_table = isinstance(value, Mapping) and isinstance(usual[key], Mapping) and usual[key]
        changes[key] = _differing(value, usual[key]) if is_table else value
    return changes
