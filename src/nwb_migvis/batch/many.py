"""Many sessions by an engine: one table of how each ended, one of all groups, and one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from nwb_migvis.batch.jobs import RECORDS, Job
from nwb_migvis.batch.working import Ended, do_job, row_of
from nwb_migvis.engines import Lost, check_engine, work_through
from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import MODELS, require
from nwb_migvis.report import write_report
from nwb_migvis.report.tables import write_table

COLUMNS = (
    "session",
    "output",
    "name",
    "seed",
    "status",
    "error",
    "seconds",
    "n_units",
    "n_images",
    "established",
)
"""Of the table of sessions."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Many sessions that were run.

    Attributes
    ----------
    sessions : pandas.DataFrame
        A row per job, in their order: `COLUMNS`.
    groups : pandas.DataFrame
        A row per group of every job that did not fail, with `session`, `output` and `seed`.
    report : Path or None
        A page about all of them.
    no_report : str
        Why there is none, where one was asked for.
    """

    sessions: pd.DataFrame
    groups: pd.DataFrame
    report: Path | None = None
    no_report: str = ""

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of the jobs that failed."""
        return self.sessions[self.sessions["status"] == "failed"]


def run_batch(
    jobs: Sequence[Job],
    *,
    engine: str = "loop",
    engine_kwargs: Mapping[str, Any] | None = None,
    n_threads: int = 0,
    overwrite: bool = False,
    report: bool = True,
    say: Callable[[str], None] | None = None,
) -> Batch:
    """Run many sessions; called again, only what is missing.

    Each worker writes its own outputs, each whole or not at all. Beside them are `sessions.csv`, `groups.csv`
    and `report.html`, and a folder `records` of what each output was made of, with a log of each. A session
    that fails is a row with its error, and the others go on. What a killed worker had is done again. The
    arrays of a session are the same under every engine at equal `n_threads`.

    Parameters
    ----------
    jobs : sequence of Job
        As `job_list` returns them.
    engine : {"loop", "joblib", "dask"}
        What the list is worked through with: one after another, in processes of this machine, or by workers
        of dask.
    engine_kwargs : mapping, optional
        joblib: `n_jobs`, -1 for as many as there are cores. dask: `client`, or the `address` of a scheduler.
        Workers of dask need the same package and see the same files; each has one thread of dask.
    n_threads : int
        Threads of each session; 0 shares the cores among the sessions that are run at once, of which none
        has more than `OMP_NUM_THREADS`, where that is set. Where `Config.n_threads` is set, torch uses that
        many.
    overwrite : bool
        Replace outputs that were made of other files or with other settings; otherwise they are refused.
    report : bool
        Write the page.
    say : callable, optional
        Takes a line about each session as it ends.

    Raises
    ------
    MigvisError
        If there are no jobs, their folder cannot be made, or the engine cannot be had. What is wrong with a
        session is a row.
    """
    require(MODELS, what="fitting")
    n_workers = check_engine(engine, engine_kwargs)
    folder = _made_folder(jobs)
    if n_workers == 0 and say is not None:
        say("the scheduler of dask has no workers yet; waiting for them")
    ended: dict[int, Ended] = {}
    work = work_through(
        partial(do_job, overwrite=overwrite),
        jobs,
        engine=engine,
        engine_kwargs=engine_kwargs,
        n_threads=n_threads,
    )
    for i, value in work:
        ended[i] = Ended(row_of(jobs[i], "failed", error=value.why)) if isinstance(value, Lost) else value
        if say is not None:
            say(_line(ended[i].row, len(ended), len(jobs)))
    batch = _collected(jobs, [ended[i] for i in range(len(jobs))])
    write_table(batch.sessions, folder / "sessions.csv")
    write_table(batch.groups, folder / "groups.csv")
    return _with_report(batch, jobs, folder) if report else batch


def _made_folder(jobs: Sequence[Job]) -> Path:
    folders = {job.output.parent for job in jobs}
    if len(folders) != 1:
        raise MigvisError(
            f"found outputs of {len(jobs)} jobs in {len(folders)} folders; expected one; make the jobs with "
            "job_list"
        )
    (folder,) = folders
    try:
        (folder / RECORDS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MigvisError(f"{folder}: {error.strerror}; give another folder with --out") from None
    return folder


def _line(row: Mapping[str, Any], n: int, n_all: int) -> str:
    place = f"{n}/{n_all} {Path(row['session']).name}"
    if row["status"] == "failed":
        return f"{place}: failed: {row['error']}"
    how = "was done before" if row["status"] == "kept" else f"{row['seconds']:.0f} s"
    return f"{place}: {row['output']} ({how})"


def _collected(jobs: Sequence[Job], ended: Sequence[Ended]) -> Batch:
    counts = {"n_units": "Int64", "n_images": "Int64"}
    sessions = pd.DataFrame([one.row for one in ended], columns=list(COLUMNS)).astype(counts)
    tables = []
    for job, one in zip(jobs, ended, strict=True):
        if one.groups is not None:
            table = one.groups.copy()
            table.insert(0, "session", job.session)
            table.insert(1, "output", job.output.name)
            table.insert(2, "seed", job.config.seed)
            tables.append(table)
    groups = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["session", "output"])
    return Batch(sessions, groups)


def _with_report(batch: Batch, jobs: Sequence[Job], folder: Path) -> Batch:
    whole = [job for job, status in zip(jobs, batch.sessions["status"], strict=True) if status != "failed"]
    names = {job.name for job in whole}
    if not whole:
        return Batch(batch.sessions, batch.groups, no_report="no session has results")
    if len(names) > 1:
        return Batch(batch.sessions, batch.groups, no_report=f"the runs have {len(names)} names")
    try:
        page = write_report([job.output for job in whole], names.pop(), out=folder / "report.html")
    except MigvisError as error:
        return Batch(batch.sessions, batch.groups, no_report=str(error))
    return Batch(batch.sessions, batch.groups, page)
