"""Where a prior to start from came from: what a run's provenance says of it."""

from __future__ import annotations

import hashlib
from importlib.resources import as_file, files
from pathlib import Path

from nwb_migvis.plain import Json
from nwb_migvis.synthesis.prior.folder import SHIPPED
from nwb_migvis.synthesis.prior.hub import hub_folder, is_hub_id

MOST_LICENSE = 20_000
"""Characters of a licence that are kept."""

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
        weights; `license`, the text of it, else what its card names, "" where nothing says.
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


def license_of(folder: Path) -> str:
    """Return the text of a model's licence, else the name that its card gives, else nothing."""
    for name in _LICENSES:
        if (folder / name).is_file():
            return _text(folder / name)
    lines = _text(folder / "README.md").splitlines() if (folder / "README.md").is_file() else []
    if lines[:1] != ["---"]:
        return ""
    for line in lines[1:]:
        key, _, value = line.partition(":")
        if line == "---":
            break
        if key == "license":
            return value.strip().strip("'\"")
    return ""


def _text(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(MOST_LICENSE).strip()
