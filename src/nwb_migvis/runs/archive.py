"""Files with results as the DANDI archive wants them, and the validation by its own tool."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import archive_notes, text_at
from nwb_migvis.runs.capsules import Capsule, capsule_of
from nwb_migvis.sources import (
    OpenFile,
    RemoteFile,
    Source,
    as_source,
    copy_to_hdf5,
    download,
    open_hdf5,
    zarr_of,
)
from nwb_migvis.store import (
    check_unlinked,
    list_runs,
    read_results,
    read_weights,
    remove_temporary,
    temporary_path,
    without_unit_rows,
    write_results,
)

_NO_LABEL = re.compile(r"[_*\\/<>:|\"'?%@;.\s]+")
"""What a subject or session cannot have in the name of a file."""

_DANDISET = "name: Results of nwb-migvis\ndescription: Say here what these files are.\n"


def lay_out(
    files: Sequence[str | Source],
    folder: str | Path,
    *,
    results_only: bool = False,
    overwrite: bool = False,
    derivatives: bool = False,
    dandiset: str = "",
) -> list[Path]:
    """Put files with results into the folders and under the names of a dandiset.

    Parameters
    ----------
    files : sequence of path
        NWB files that hold results, or their addresses.
    folder : path
        The dandiset, made where it is absent, as is its `dandiset.yaml`.
    results_only : bool
        Write the results without the recordings.
    overwrite : bool
        Replace files that exist.
    derivatives : bool
        Use the layout of derivatives of many sessions; see `nwb_migvis.runs.capsules`.
    dandiset : str
        Six digits: where the sessions are, if their results do not say. For `derivatives`.

    Returns
    -------
    list of Path
        `folder/sub-X/sub-X_ses-Y_desc-migvis_....nwb` for each file, in HDF5; with `derivatives`
        `folder/derivatives/dandisets-NNN/.../derivatives/nwb/sub-X_ses-Y_desc-migvis_....nwb`.

    Raises
    ------
    MigvisError
        If a file holds no results, lacks what the archive asks for, links to other files, or would get the
        name of another; if it is not known which dandiset its session is in. Nothing is copied then.
    """
    folder = Path(folder)
    if dandiset and not derivatives:
        raise MigvisError("found a dandiset without derivatives; expected both; add --derivatives")
    places: dict[Path, tuple[Source, Capsule | None]] = {}
    for path in (as_source(file, what="file") for file in files):
        if isinstance(path, OpenFile):
            raise MigvisError(f"{path} is an open file; expected a path or an address; give that")
        own = _place(path, results_only=results_only)
        capsule = capsule_of(path, own, dandiset=dandiset) if derivatives else None
        place = folder / (capsule.file(own.name) if capsule else own)
        if place in places:
            raise MigvisError(
                f"{path} and {places[place][0]} are of one subject and session; expected a session_id that "
                "tells them apart; correct it in one of them"
            )
        if place.exists() and not overwrite:
            raise MigvisError(f"{place} exists already; expected a new file; give --overwrite or another DIR")
        places[place] = path, capsule
    for place, (path, capsule) in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        if results_only:
            _extract(path, place, overwrite=overwrite)
        else:
            _copy(path, place)
        if capsule is not None:
            capsule.describe(folder)
    if not (folder / "dandiset.yaml").exists():
        (folder / "dandiset.yaml").write_text(_DANDISET, encoding="utf-8")
    return list(places)


def archive_findings(folder: str | Path) -> list[str] | None:
    """Return what `dandi validate` finds in a dandiset's folder; None where dandi is not installed.

    It is run without the network.
    """
    if find_spec("dandi") is None:
        return None
    command = [sys.executable, "-c", "from dandi.cli.command import main; main()", "validate", str(folder)]
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    offline = {"DANDI_NO_ET": "1", "DANDI_CACHE": "ignore", "NO_COLOR": "1"}
    environment = {**os.environ, **offline, "PATH": beside}  # dandi runs the validator of BIDS, by name
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return []
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return lines or [done.stderr.strip().rpartition("\n")[2] or "dandi validate failed"]


def _place(path: Source, *, results_only: bool) -> Path:
    """Return where a file belongs in a dandiset, having checked that the archive takes it."""
    if not list_runs(path):
        raise MigvisError(f"{path}: found no results; expected a file that `nwb-migvis run` wrote; run it")
    notes = archive_notes(path)
    refused = [note for note in notes if "session_id" not in note]
    if refused:
        raise MigvisError(f"{path}: the archive will refuse it: {'; '.join(refused)}; correct the session")
    if not results_only:
        check_unlinked(path)
    with open_hdf5(path) as file:
        subject = _label(text_at(file, "general/subject/subject_id"))
        session = _label(text_at(file, "general/session_id"))
        has_units = not results_only and ("units" in file or "general/extracellular_ephys" in file)
        has_images = any(f"analysis/{name}/synthesized_images" in file for name in list_runs(path))
    parts = [f"sub-{subject}", *([f"ses-{session}"] if session else []), "desc-migvis"]
    kinds = "+".join(["ecephys"] * has_units + ["image"] * has_images)
    return Path(f"sub-{subject}") / f"{'_'.join([*parts, *([kinds] if kinds else [])])}.nwb"


def _label(text: str) -> str:
    return _NO_LABEL.sub("-", text).strip("-")


def _extract(path: Source, place: Path, *, overwrite: bool) -> None:
    """Write all runs of a file into one without the recording."""
    first, *others = list_runs(path)
    results, weights = read_results(path, first), read_weights(path, first)
    write_results(results, source=path, weights=weights, out=place, overwrite=overwrite, results_only=True)
    for name in others:
        results, weights = read_results(path, name), read_weights(path, name)
        results = without_unit_rows(results)
        write_results(results, source=place, weights=weights, in_place=True, backup=False)


def _copy(path: Source, place: Path) -> None:
    """Copy a file, whole or not at all.

    A Zarr folder becomes an HDF5 file: `dandi validate` opens no text and no numcodecs filters of Zarr 3.
    """
    temporary, zarr = temporary_path(place), zarr_of(path)
    try:
        if isinstance(path, RemoteFile):
            download(path, temporary)
        elif zarr is not None:
            copy_to_hdf5(zarr, temporary)
        else:
            shutil.copyfile(str(path), temporary)
        temporary.replace(place)
    finally:
        remove_temporary(temporary)
