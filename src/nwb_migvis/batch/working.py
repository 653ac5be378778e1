"""What a worker does: one session, from its files to its file, and a record of how that ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nwb_migvis.analysis.context import digest_of
from nwb_migvis.batch.jobs import Job, record_of
from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.extras import MODELS, require
from nwb_migvis.plain import Json, plain
from nwb_migvis.progress import note, set_quiet, telling
from nwb_migvis.results import Results
from nwb_migvis.runs import run_files
from nwb_migvis.sources import as_source
from nwb_migvis.store import Destination, read_results, reserve

_ASIDE = ("cache", "n_threads")
"""Settings that tell how, not what, is computed."""


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes
    ----------
    row : dict
        Of the table of sessions: `status` is "done", "kept" (it was done before) or "failed", with `error`.
    groups : pandas.DataFrame or None
        Of the run, a row per group.
    """

    row: Json
    groups: pd.DataFrame | None = None


def do_job(job: Job, n_threads: int, *, overwrite: bool = False) -> Ended:
    """Run a session unless that is done, and say how it ended; nothing is raised.

    Parameters
    ----------
    job : Job
    n_threads : int
        Threads of torch and BLAS; 0 leaves them.
    overwrite : bool
        Replace an output that was made of another file or with other settings.
    """
    started = time.perf_counter()
    results, error = None, ""
    try:
        with _alone(record_of(job.output).with_suffix(".log"), n_threads):
            status, results = _run_or_keep(job, overwrite)
    except MigvisError as problem:
        status, error = "failed", str(problem)
    except OSError as problem:
        status, error = "failed", _said(problem)
    except Exception as problem:  # a session must not stop the others; its log has where it happened
        status, error = "failed", f"{type(problem).__name__}: {problem}"
    return Ended(
        row_of(job, status, error=error, seconds=time.perf_counter() - started, results=results),
        None if results is None else results.groups.reset_index(names="group"),
    )


def _said(problem: OSError) -> str:
    if problem.filename is None or not problem.strerror:
        return str(problem)
    return f"{problem.filename}: {problem.strerror}; expected a file that can be read; correct its path"


def row_of(
    job: Job, status: str, *, error: str = "", seconds: float = float("nan"), results: Results | None = None
) -> Json:
    """Return the row of a job in the table of sessions."""
    row: Json = {
        "session": job.session,
        "output": job.output.name,
        "name": job.name,
        "seed": job.config.seed,
        "status": status,
        "error": printable(" ".join(error.split())),
        "seconds": round(seconds, 1),
    }
    if results is not None:
        verdicts = results.groups.get("verdict", pd.Series(dtype=str))
        named = [str(group) for group, text in verdicts.items() if str(text).startswith("established")]
        row |= {
            "n_units": results.units.sizes["unit"],
            "n_images": results.latents.sizes["stimulus"],
            "established": " ".join(named),
        }
    return row


def _run_or_keep(job: Job, overwrite: bool) -> tuple[str, Results]:
    what = _made_of(job)
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    path, before = record_of(job.output), _read_record(record_of(job.output))
    if job.output.exists():
        is_same = before.get("key") == key
        if is_same and before.get("state") == "done":
            with contextlib.suppress(MigvisError):  # a damaged output is made again
                return "kept", read_results(job.output, job.name)
        if not is_same and not overwrite:
            _refuse(job, before, what)
    with reserve(job.output):
        _write_record(path, {"state": "begun", "key": key, "made_of": what})
        ((_, results),) = run_files(
            [job.session],
            Destination(out=job.output, overwrite=job.output.exists(), results_only=job.results_only),
            name=job.name,
            config=job.config,
            **job.reading,
        )
        _write_record(path, {"state": "done", "key": key, "made_of": what})
    return "done", results


def _made_of(job: Job) -> Json:
    """Return what the results follow from, but for threads and versions: settings, and digests of files."""
    files = [job.reading[key] for key in ("images", "labels") if isinstance(job.reading.get(key), str)]
    return {
        "session": digest_of(as_source(job.session, what="session")),
        "files": {Path(path).name: _state_of(Path(path)) for path in files},
        "reading": plain(dict(job.reading)),
        "name": job.name,
        "results_only": job.results_only,
        "config": {key: value for key, value in job.config.to_dict().items() if key not in _ASIDE},
    }


def _state_of(path: Path) -> str:
    """Return the digest of a file; of a folder, of the names and sizes of what lies in it."""
    if path.is_dir():
        entries = sorted((str(p.relative_to(path)), p.stat().st_size) for p in path.rglob("*"))
        return hashlib.sha256(json.dumps(entries).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _refuse(job: Job, before: Json, what: Json) -> None:
    if not before:
        raise MigvisError(
            f"{job.output} exists already, and no batch made it; expected no file; give another --out, or "
            "--overwrite to replace it"
        )
    changed = ", ".join(_changes(before.get("made_of", {}), what)) or "other versions of its record"
    raise MigvisError(
        f"{job.output} was made with other settings or files ({changed}); expected the same; give another "
        "--out, or --overwrite to make it again"
    )


def _changes(before: Any, now: Any, place: str = "") -> list[str]:
    """Return the places where two nested mappings differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys([*before, *now])
        return [
            change
            for key in keys
            for change in _changes(before.get(key), now.get(key), f"{place}.{key}" if place else str(key))
        ]
    return [] if before == now else [place.removeprefix("config.")]


def _read_record(path: Path) -> Json:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(path: Path, record: Json) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
    temporary.replace(path)


@contextlib.contextmanager
def _alone(log: Path, n_threads: int) -> Iterator[None]:
    """Work in silence on so many threads, with a log that says where an unforeseen error happened."""
    require(MODELS, what="fitting")
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    set_quiet(True)
    try:
        if n_threads:
            torch.set_num_threads(n_threads)
        with (
            threadpool_limits(n_threads or None),
            warnings.catch_warnings(),
            telling(None, log=log),
        ):
            try:
                yield
            except (MigvisError, OSError):
                raise
            except Exception:
                note(traceback.format_exc())
                raise
    finally:
        torch.set_num_threads(before)
        set_quiet(False)
