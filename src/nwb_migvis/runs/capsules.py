"""Results in a dandiset of derivatives of many sessions: where each lies, and what is said of it there.

The layout is that of Dandiset 001697, the derivatives that the DANDI archive computes. Each result lies in a
folder of its own that says what it was made from and by what (https://github.com/dandi-compute):
`derivatives/dandisets-000/dandiset-000004/PATH OF THE SESSION/pipeline-migvis/job-YYMMDDHASH`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json
from nwb_migvis.sources import Source
from nwb_migvis.store import list_runs, read_results

PIPELINE = "migvis"
BIDS_VERSION = "1.10.0"
CODE_URL = "https://github.com/nwb-migvis/nwb-migvis"

_DANDISET = re.compile(r"\d{6}")


@dataclass(frozen=True)
class Capsule:
    """The folder of one result.

    Attributes
    ----------
    place : Path
        In the dandiset.
    about : dict
        Its `dataset_description.json`.
    settings : mapping of str to dict
        The settings of each run.
    """

    place: Path
    about: Json
    settings: dict[str, Json]

    def file(self, name: str) -> Path:
        """Return the path of the file with results, in the dandiset."""
        return self.place / "derivatives" / "nwb" / name

    def describe(self, dandiset: Path) -> None:
        """Write what is said of the result beside it."""
        code = dandiset / self.place / "code"
        code.mkdir(parents=True, exist_ok=True)
        _write(dandiset / self.place / "dataset_description.json", self.about)
        for name, settings in self.settings.items():
            _write(code / f"{name}.json", settings)


def capsule_of(path: Source, place: Path, *, dandiset: str = "") -> Capsule:
    """Return the folder of the results in a file.

    Parameters
    ----------
    path : path, or another source
        A file with results.
    place : Path
        Where it belongs in a dandiset of its own, `sub-X/sub-X_ses-Y_desc-migvis_....nwb`.
    dandiset : str
        Six digits: where the session is, if the results do not say.

    Raises
    ------
    MigvisError
        If neither says which dandiset the session is in, or the results name a place outside of it.
    """
    runs = {name: read_results(path, name).provenance for name in list_runs(path)}
    first = next(iter(runs.values()))
    session = dict(next(iter(first.get("inputs") or []), {}))
    dandiset = _dandiset(path, session, dandiset)
    within = str(session.get("asset_path") or f"{place.parent.name}/{session.get('path') or place.name}")
    parts = re.sub(r"\.nwb(\.zarr)?$", "", within).replace("_desc-migvis", "").split("/")
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        raise MigvisError(
            f"{path}: its results are of the session {within!r}; expected the path of a file in a dandiset; "
            "run again on the session at its address"
        )
    settings = {name: dict(provenance.get("config") or {}) for name, provenance in runs.items()}
    version = str(first.get("versions", {}).get("nwb-migvis", ""))
    content = str(session.get("asset_id") or session.get("sha256") or "")
    said = json.dumps(settings, sort_keys=True)
    identity = "|".join([dandiset, within, PIPELINE, version, said, content])
    digest = hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest()[:6]
    job = f"job-{_made(first):%y%m%d}{digest}"
    folder = Path("derivatives", f"dandisets-{dandiset[:3]}", f"dandiset-{dandiset}", *parts)
    record = {
        "job_id": job,
        "dandiset_id": dandiset,
        "within_dandiset_path": within,
        "asset_id": session.get("asset_id"),
        "sha256": session.get("sha256"),
        "pipeline": PIPELINE,
        "version": version,
        "runs": list(runs),
    }
    about = _description(dandiset, session, version) | {"NwbMigvis": _known(record)}
    return Capsule(folder / f"pipeline-{PIPELINE}" / job, about, settings)


def _dandiset(path: Source, session: Json, given: str) -> str:
    said = str(session.get("dandiset") or "")
    if given and said and given != said:
        raise MigvisError(
            f"{path}: its results are of a session in dandiset {said}; expected {given}, as was given; omit "
            "it (--dandiset)"
        )
    found = said or given
    if not _DANDISET.fullmatch(found):
        state = f"found {found!r}" if found else "its results do not say which dandiset the session is in"
        raise MigvisError(f"{path}: {state}; expected six digits, as 000004; give them with --dandiset")
    return found


def _made(provenance: Json) -> datetime:
    """Return when a run began, in UTC; now where it does not say."""
    try:
        began = datetime.fromisoformat(provenance["times"]["started"])
    except (KeyError, TypeError, ValueError):
        return datetime.now(UTC)
    return began.astimezone(UTC)


def _description(dandiset: str, session: Json, version: str) -> Json:
    """Return what BIDS asks of a dataset: what made it, and from which."""
    is_sandbox = re.match(r"dandi://[\w-]*sandbox/", str(session.get("address", "")))
    host = "sandbox.dandiarchive.org" if is_sandbox else "dandiarchive.org"
    source = {"URL": f"https://{host}/dandiset/{dandiset}/", "Version": session.get("version")}
    by = {
        "Name": "nwb-migvis",
        "Version": version,
        "Description": "Latent groups of a visual population's responses, and what each encodes.",
        "CodeURL": CODE_URL,
    }
    return {
        "Name": f"nwb-migvis: results for Dandiset {dandiset}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "study",
        "GeneratedBy": [_known(by)],
        "SourceDatasets": [_known(source)],
    }


def _known(record: dict[str, Any]) -> Json:
    return {key: value for key, value in record.items() if value}


def _write(path: Path, about: Json) -> None:
    path.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
