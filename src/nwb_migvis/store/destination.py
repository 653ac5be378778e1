"""Where results go, and every reason not to write them there, found before any work."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import h5py

from nwb_migvis.errors import MigvisError
from nwb_migvis.store.canonical import check_name
from nwb_migvis.store.decode import is_run, open_file, runs_in

SPARE_BYTES = 64 * 2**20
_HOST = re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname())[:40] or "host"
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.migvis-(?P<host>[A-Za-z0-9-]+)-(?P<pid>\d+)\.tmp")


def check_destination(
    source: str | Path,
    *,
    out: str | Path | None = None,
    in_place: bool = False,
    overwrite: bool = False,
    name: str = "migvis",
    backup: bool = True,
    expected_bytes: int = 0,
    replace_run: bool = False,
) -> Path:
    """Return the path that results will be written to, or refuse.

    Parameters
    ----------
    source : path-like
        The session's NWB file.
    out : path-like, optional
        The file to write; a sibling `NAME_migvis.nwb` of the source where it is None.
    in_place : bool
        Write the results back under the source's own path.
    overwrite : bool
        Allow an `out` that exists, and a run of the same name in the source, to be replaced.
    name : str
        Name of the run.
    backup : bool
        In place, keep the source under `NAME.nwb.bak`.
    expected_bytes : int
        Size of the results, besides that of the source and a spare of 64 MiB.
    replace_run : bool
        Allow a run of the same name in the source to be replaced, but no `out` that exists.

    Raises
    ------
    MigvisError
        If the source cannot be read or is open for writing elsewhere; if the destination exists, is a
        link, is the source itself, or lies in a folder that is absent, not writable, or short of space; if
        links out of the file would break there; if the name is taken or cannot name an object; in place,
        if the source is a symbolic link, is read-only, or is open in another process.
    """
    source = Path(source)
    destination = source if in_place else _choose(source, out)
    if destination.is_file() and (in_place or overwrite) and _open_elsewhere(destination):
        raise MigvisError(
            f"{destination} is open in another process; expected a file that no one uses; close it there"
            f"{', or write another file with --out' if in_place else ''}"
        )
    return choose_destination(
        source,
        out=out,
        in_place=in_place,
        overwrite=overwrite,
        name=name,
        backup=backup,
        expected_bytes=expected_bytes,
        replace_run=replace_run,
    )


def choose_destination(
    source: Path,
    *,
    out: str | Path | None,
    in_place: bool,
    overwrite: bool,
    name: str,
    backup: bool,
    expected_bytes: int,
    replace_run: bool,
) -> Path:
    """Do as `check_destination`, but allow other processes to read the destination.

    They keep the old file that they have open, so that finished results need not be thrown away.
    """
    check_name(name)
    if in_place and out is not None:
        raise MigvisError(f"found both in_place and out = {out}; expected one of them; leave the other away")
    destination = source if in_place else _choose(source, out)
    with open_file(source) as file:
        _check_run_name(file, source, name, overwrite or replace_run)
        _check_links(file, source, destination)
    if in_place:
        _check_in_place(source)
    elif destination.exists() and destination.samefile(source):
        raise MigvisError(
            f"{destination} is the source itself; expected another file; use --in-place to write back"
        )
    else:
        _check_new(destination, overwrite)
    _check_folder(destination, hard_links=in_place and backup)
    _check_space(source, destination, expected_bytes)
    return destination


def check_new_file(destination: Path, *, overwrite: bool) -> None:
    """Refuse a path for a new file, which is made of no NWB file.

    Raises
    ------
    MigvisError
        If it exists, is a link, or lies in a folder that is absent or not writable.
    """
    _check_new(destination, overwrite)
    _check_folder(destination, hard_links=False)


def temporary_path(destination: Path) -> Path:
    """Return the name under which this process writes a file before it gets its final name."""
    return destination.with_name(f".{destination.name}.migvis-{_HOST}-{os.getpid()}.tmp")


def sweep_temporary_files(folder: Path) -> None:
    """Remove temporary files that killed processes of this machine left in a folder."""
    for path in folder.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match and match["host"] == _HOST and not _alive(int(match["pid"])):
            with contextlib.suppress(OSError):
                path.unlink()


def _alive(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 would interrupt the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _choose(source: Path, out: str | Path | None) -> Path:
    return source.with_name(f"{source.stem}_migvis.nwb") if out is None else Path(out)


def _check_in_place(source: Path) -> None:
    if source.is_symlink():
        raise MigvisError(
            f"{source} is a symbolic link to {source.resolve()}; expected the file itself to write in place; "
            "give its real path, or write another file with --out"
        )
    if not os.access(source, os.W_OK):
        raise MigvisError(f"{source} is read-only; expected a writable file; allow writing, or use --out")
    backups = [p for p in source.parent.iterdir() if p.name.startswith(f"{source.name}.bak")]
    others = source.stat().st_nlink - 1 - sum(p.samefile(source) for p in backups)
    if others > 0:
        raise MigvisError(
            f"{source} has {others} more names (hard links), which would keep the old content; "
            "expected one name; copy the file first, or write another file with --out"
        )


def _open_elsewhere(path: Path) -> bool:
    """Tell whether another process holds a lock on an HDF5 file (False where that cannot be told)."""
    try:
        import fcntl
    except ImportError:
        return False
    if _open_here(path):
        return False
    with path.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


def _open_here(path: Path) -> bool:
    """Tell whether this process has the file open: its own lock would look like another's."""
    found = path.stat()
    for descriptor in os.listdir("/dev/fd"):  # noqa: PTH208 - Path resolves what the entries lead to
        with contextlib.suppress(OSError):
            if os.path.samestat(found, os.fstat(int(descriptor))):
                return True
    return False


def _check_new(destination: Path, overwrite: bool) -> None:
    if destination.is_symlink():
        raise MigvisError(f"{destination} is a symbolic link; expected a new file; give another --out")
    if destination.is_dir():
        raise MigvisError(f"{destination} is a folder; expected the path of a file; add a file name to --out")
    if destination.exists() and not overwrite:
        raise MigvisError(
            f"{destination} exists already{_its_runs(destination)}; expected a new file; "
            "give another --out, --overwrite to replace it, or run on that file --in-place to add to it"
        )


def _its_runs(path: Path) -> str:
    with contextlib.suppress(MigvisError, OSError), open_file(path) as file:
        names = runs_in(file)
        return f" (runs: {', '.join(names)})" if names else ""
    return ""


def _check_folder(destination: Path, *, hard_links: bool) -> None:
    folder = destination.parent
    if not folder.is_dir():
        raise MigvisError(
            f"{folder} is no folder; expected one for {destination.name}; make it, or give another --out"
        )
    probe = temporary_path(destination)
    second = probe.with_name(f".{probe.name}")
    try:
        probe.unlink(missing_ok=True)
        probe.touch()
        if hard_links:
            os.link(probe, second)
    except OSError as error:
        what = "a folder with hard links for the backup" if probe.exists() else "a writable folder"
        raise MigvisError(
            f"{folder}: {error.strerror}; expected {what}; write elsewhere with --out"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            second.unlink(missing_ok=True)
            probe.unlink(missing_ok=True)


def _check_space(source: Path, destination: Path, expected_bytes: int) -> None:
    needed = source.stat().st_size + expected_bytes + SPARE_BYTES
    free = shutil.disk_usage(destination.parent).free
    if free < needed:
        raise MigvisError(
            f"{destination.parent}: found {free / 1e9:.2f} GB of free space; expected {needed / 1e9:.2f} GB "
            f"for {destination.name}; free some, or give another --out"
        )


def _check_run_name(file: h5py.File, source: Path, name: str, overwrite: bool) -> None:
    taken = file.get(f"analysis/{name}")
    if taken is None:
        return
    if not is_run(taken):
        raise MigvisError(
            f"{source}: /analysis/{name} is there already and is no run of nwb-migvis; expected a free name; "
            "give another --name"
        )
    if not overwrite:
        raise MigvisError(
            f"{source}: found a run {name!r} already (runs: {', '.join(runs_in(file))}); "
            "expected a new name; give another --name, or --overwrite to replace it"
        )


def _check_links(file: h5py.File, source: Path, destination: Path) -> None:
    """Refuse links that lead nowhere, and relative paths of images that a move would break."""
    moved = destination.parent.resolve() != source.parent.resolve()
    for path, item in _objects(file):
        if item is None:
            raise MigvisError(
                f"{source}: {path} is a link to something that is not there; expected all of the session; "
                "bring the linked file back, or the copy would lose it"
            )
        if moved:
            relative = [p for p in _external_paths(path, item) if not _is_absolute(p)]
            if relative:
                raise MigvisError(
                    f"{source}: {path} points to {relative[0]}, relative to the file's folder; "
                    "expected an output beside the source; leave --out away or give a file in its folder"
                )


def _objects(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset | None]]:
    """Yield every object by path, each once; None for a link that leads nowhere."""
    stack, seen = ["/"], set()
    while stack:
        parent = stack.pop()
        group = file[parent]
        if group.id in seen:
            continue
        seen.add(group.id)
        for name in group:
            path = f"{parent.rstrip('/')}/{name}"
            if path == "/specifications":
                continue
            item = group.get(name)
            yield path, item
            if isinstance(item, h5py.Group):
                stack.append(path)


def _external_paths(path: str, item: h5py.Group | h5py.Dataset) -> list[str]:
    if not isinstance(item, h5py.Dataset):
        return []
    if path.endswith("/external_file"):
        return [str(p) for p in item.asstr()[()].ravel()]
    return [str(item.asstr()[()])] if item.attrs.get("neurodata_type") == "ExternalImage" else []


def _is_absolute(path: str) -> bool:
    return Path(path).is_absolute() or "://" in path
