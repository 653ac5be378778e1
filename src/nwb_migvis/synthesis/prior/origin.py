"""Where a prior to start from came from: what a run's provenance says of it."""

from __future__ import annotations

import hashlib
from importlib.resources import as_file, files
from pathlib import Path

from nwb_migvis.plain import Json
from nwb_migvis.synthesis.prior.folder import SHIPPED
from nwb_migvis.synthesis.prior.hub import hub_folder, is_hub_id

MOST_LICENSE, MOST_LINE = 40_000, 1000
"""Characters of a licence that are kept, and of a line of it."""

_PLACES = ("", "unet", "transformer", "vae", "scheduler", "text_encoder", "tokenizer")
_LICENSES = ("LICENSE", "LICENCE", "LICENSE.txt", "LICENSE.md", "LICENCE.txt", "LICENCE.md")


def origin_of(name: str) -> Json:
    """Return where a prior comes from.

    Parameters
    ----------
    name : str
        As `prior.start` has it: one that is shipped, a folder, or an id of the hub.

    Returns
    -------
    dict
        `shipped`, `folder` (its name), or `id` and `revision` (the commit). `sha256` of its settings and
        weights; `license`, the lines of its text, else what its card names, none where nothing says.
    """
    if name in SHIPPED:
        with as_file(files("nwb_migvis.synthesis.prior") / "shipped" / name) as folder:
            return {"shipped": name, "sha256": digest_of_folder(folder)}
    if is_hub_id(name):
        folder = hub_folder(name)
        about: Json = {"id": name.partition("@")[0], "revision": folder.name}
    else:
        folder = Path(name)
        about = {"folder": folder.resolve().name}
    return about | {"sha256": digest_of_folder(folder), "license": license_of(folder)}


def digest_of_folder(folder: Path) -> str:
    """Return the sha256 of the settings and weights in a prior's folder, with their names."""
    digest = hashlib.sha256()
    for place in _PLACES:
        within = folder / place
        for path in sorted(within.iterdir()) if within.is_dir() else []:
            if path.suffix in (".json", ".safetensors") and path.is_file():
                with path.open("rb") as file:
                    own = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{place}/{path.name} {own}\n".encode())
    return digest.hexdigest()


def license_of(folder: Path) -> list[str]:
    """Return the lines of a model's licence, else the name that its card gives, else nothing."""
    for name in _LICENSES:
        if (folder / name).is_file():
            return _lines(folder / name)
    lines = _lines(folder / "README.md") if (folder / "README.md").is_file() else []
    if lines[:1] != ["---"]:
        return []
    for line in lines[1:]:
        key, _, value = line.partition(":")
        if line == "---":
            break
        if key == "license":
            return [value.strip().strip("'\"")]
    return []


def _lines(path: Path) -> list[str]:
    """Return the lines of a text that hold something, as a file's record can have them."""
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = file.read(MOST_LICENSE).expandtabs().splitlines()
    printable = ["".join(c for c in line if c.isprintable()).strip() for line in lines]
    return [line[:MOST_LINE] for line in printable if line]
