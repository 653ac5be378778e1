"""Units of work: a session with its options, made of a pattern, a table or a list."""

from __future__ import annotations

import glob
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nwb_migvis.config import Config
from nwb_migvis.config.checking import merge
from nwb_migvis.errors import MigvisError
from nwb_migvis.files import read_csv, results_name
from nwb_migvis.plain import nearest
from nwb_migvis.sources.address import is_address, name_at
from nwb_migvis.store.canonical import check_name

if TYPE_CHECKING:
    import pandas as pd

    Sessions = str | Path | pd.DataFrame | Sequence[str | Path | Mapping[str, Any]]

RECORDS = "records"
"""Folder beside the outputs: what each was made of, and a log of each."""

READING = (
    "images",
    "labels",
    "where",
    "units",
    "window_s",
    "layout",
    "stimulus",
    "allow_outside",
    "resize_px",
    "channel_order",
    "index_base",
    "merge_repeats",
    "allow_long_window",
)
"""Columns that are keywords of `read_session`."""

_OTHER = ("session", "output", "name", "preset", "config", "seed", "device")
_SPELLED = {"window": "window_s", "resize": "resize_px"}
"""Columns that have the name of an option of the command line."""
_EXPECTED = {
    **dict.fromkeys(("window", "window_s"), "two numbers, as in 0.07 0.17"),
    **dict.fromkeys(("resize", "resize_px"), "two whole numbers, as in 64 64"),
    **dict.fromkeys(("index_base", "seed"), "a whole number"),
}
_PATHS = ("session", "images", "labels", "config")


@dataclass(frozen=True)
class Job:
    """A unit of work: one session, run once.

    Attributes
    ----------
    session : str
        Path, or address.
    output : Path
        The file that is written.
    config : Config
    name : str
        Of the run.
    reading : mapping
        Keywords of `read_session`.
    results_only : bool
        Whether the recording is left out.
    """

    session: str
    output: Path
    config: Config
    name: str = "migvis"
    reading: Mapping[str, Any] = field(default_factory=dict)
    results_only: bool = False


def job_list(
    sessions: Sessions,
    out: str | Path,
    *,
    config: Config | None = None,
    seeds: Sequence[int] = (),
    name: str = "migvis",
    results_only: bool = False,
    reading: Mapping[str, Any] | None = None,
) -> list[Job]:
    """Return the jobs of many sessions.

    Parameters
    ----------
    sessions : pattern, path of a CSV, table, or sequence
        A pattern such as `data/*.nwb`; or a table, or a list of mappings, with a row per job. A row has a
        `session`, and may have keywords of `read_session`, `output` (a file name), `name`, `preset`, `config`
        (a TOML file), `seed`, `device`, and single settings such as `latents.n_steps`. In a CSV, paths are
        relative to its folder, and an empty cell says nothing.
    out : path
        Folder of the outputs.
    config : Config, optional
        Of rows that say nothing else.
    seeds : sequence of int
        Do every row once per seed, into `NAME_migvis_seed-1.nwb`.
    name, results_only
        As for `run`.
    reading : mapping, optional
        Keywords of `read_session`, where a row says nothing else.

    Raises
    ------
    MigvisError
        If nothing is found, a row does not parse, or two rows would be written to one file.
    """
    check_name(name)
    common = Job("", Path(out), config or Config.from_preset(), name, dict(reading or {}), results_only)
    jobs = []
    for where, row in _rows(sessions, Path(out)):
        job = _job(row, common, where=where)
        jobs += [_with_seed(job, seed) for seed in seeds] if seeds else [job]
    if not jobs:
        raise MigvisError("found 0 sessions; expected one or more; give a pattern such as 'data/*.nwb'")
    _check_distinct(jobs)
    return jobs


def _rows(sessions: Any, out: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the rows with what messages call them."""
    if isinstance(sessions, str | Path):
        if Path(sessions).suffix == ".csv":
            return _rows_of_csv(Path(sessions))
        return [(path, {"session": path}) for path in _matches(str(sessions), out)]
    if hasattr(sessions, "to_dict"):
        sessions = _records(sessions)
    if isinstance(sessions, Mapping) or not isinstance(sessions, Iterable):
        raise MigvisError(
            f"sessions is {sessions!r:.80}; expected a pattern, the path of a CSV, a table, or a list of "
            "paths or mappings; give a list of one"
        )
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for i, row in enumerate(sessions):
        where = f"sessions[{i}]"
        row = row if isinstance(row, Mapping) else {"session": row}
        given = {key: v for key, v in row.items() if v is not None and v == v}
        rows.append((where, {key: _meant(key, value, where) for key, value in given.items()}))
    return rows


def _records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return the rows of a table; whole numbers that pandas holds as floats beside empty cells are whole."""
    records = table.astype(object).where(table.notna(), None).to_dict(orient="records")
    for record in records:
        for key in table.columns[table.isna().any()]:
            if isinstance(record[key], float) and record[key].is_integer():
                record[key] = int(record[key])
    return records


def _matches(pattern: str, out: Path) -> list[str]:
    if is_address(pattern):
        return [pattern]
    if Path(pattern).exists():  # a name may have brackets
        return [pattern]
    found = without_outputs(sorted(glob.glob(pattern, recursive=True)), out)  # noqa: PTH207 - ** and absolute
    if not found:
        raise MigvisError(
            f"no file matches {pattern!r}; expected one or more; correct the pattern, and put it in quotes"
        )
    return found


def without_outputs(sessions: Sequence[str], out: str | Path) -> list[str]:
    """Return those sessions that are no outputs: of a batch in this folder, or of a run on another of them.

    Parameters
    ----------
    sessions : sequence of str
        Paths, and addresses, which all stay.
    out : path
        Folder of a batch.
    """
    out = Path(out)
    paths = [Path(session) for session in sessions if not is_address(session)]
    outputs = {(folder / results_name(path)).resolve() for path in paths for folder in (out, path.parent)}
    return [
        session
        for session in sessions
        if is_address(session) or not (Path(session).resolve() in outputs or _is_output(Path(session), out))
    ]


def record_of(output: Path) -> Path:
    """Return the file that says what an output was made of."""
    return output.parent / RECORDS / f"{output.stem}.json"


def _is_output(path: Path, out: Path) -> bool:
    """Whether a batch wrote this file into its folder, under whatever name: there is a record of it."""
    return path.resolve().parent == out.resolve() and record_of(path).is_file()


def _rows_of_csv(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    text: dict[str, Any] = {"dtype": str, "keep_default_na": False, "skip_blank_lines": False}
    table = read_csv(path, what="sessions", needs=("session",), skipinitialspace=True, **text).fillna("")
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for i, cells in enumerate(table.to_dict(orient="records")):
        where = f"{path}, row {i + 1}"
        row = {str(key): _value(str(key), text.strip(), where) for key, text in cells.items() if text.strip()}
        for key in _PATHS:
            if key in row and not is_address(str(row[key])):
                row[key] = str(path.parent / row[key])
        if row:
            rows.append((where, row))
    return rows


def _meant(column: str, value: Any, where: str) -> Any:
    """Return what a value of a table or mapping means: text as in a CSV, but for settings."""
    return _value(column, value.strip(), where) if isinstance(value, str) and "." not in column else value


def _value(column: str, text: str, where: str) -> Any:
    """Return what a cell of a CSV means: by its column a number, a truth value, a setting, or text."""
    try:
        if column in ("window", "window_s"):
            start, stop = map(float, re.sub(r"[][(),:]", " ", text).split())
            return start, stop
        if column in ("resize", "resize_px"):
            height, width = map(int, re.sub(r"[][(),x]", " ", text).split())
            return height, width
        if column in ("index_base", "seed"):
            return int(text.removesuffix(".0"))
        if column in ("allow_outside", "allow_long_window", "merge_repeats"):
            return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError):
        expected = _EXPECTED.get(column, "true or false")
        raise MigvisError(f"{where}: found {text!r} in the column {column!r}; expected {expected}") from None
    if "." in column:
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def _job(row: Mapping[str, Any], common: Job, *, where: str) -> Job:
    twice = [key for key, other in _SPELLED.items() if key in row and other in row]
    if twice:
        raise MigvisError(
            f"{where}: found the columns {twice[0]!r} and {_SPELLED[twice[0]]!r}, which are one; omit one"
        )
    row = {_SPELLED.get(key, key): value for key, value in row.items()}
    unknown = [key for key in row if key not in (*_OTHER, *READING) and "." not in key]
    if unknown:
        expected = nearest(unknown[0], (*_OTHER, *READING, "latents.n_steps"), most=30)
        raise MigvisError(f"{where}: the column {unknown[0]!r} is unknown; expected some of {expected}")
    if "session" not in row:
        raise MigvisError(f"{where}: found no session; expected its path in the column 'session'")
    session = row["session"]
    if not isinstance(session, str | Path) or "\0" in str(session):
        raise MigvisError(f"{where}: found the session {session!r:.80}; expected a path or an address")
    session = str(session)
    if not is_address(session):
        session = str(Path(session).absolute())
    named = Path(name_at(session)) if is_address(session) else Path(session)
    if named.suffix == ".zarr":
        named = named.with_suffix("")
    output = str(row.get("output", results_name(named)))
    if Path(output).name != output or not output.endswith(".nwb"):
        raise MigvisError(
            f"{where}: found the output {output!r}; expected the name of a file, without a folder, that ends "
            "in .nwb"
        )
    reading = {key: row[key] for key in READING if key in row}
    for key in ("images", "labels"):
        if isinstance(reading.get(key), str):
            reading[key] = str(Path(reading[key]).absolute())
    try:
        check_name(str(row.get("name", common.name)))
        config = _config(row, common.config, where=where)
    except MigvisError as error:
        known = str(error).startswith(where)
        raise MigvisError(str(error) if known else f"{where}: {error}") from None
    return replace(
        common,
        session=session,
        output=(common.output / output).absolute(),
        name=str(row.get("name", common.name)),
        config=config,
        reading={**common.reading, **reading},
    )


def _config(row: Mapping[str, Any], config: Config, *, where: str) -> Config:
    """Return the settings of a row: a preset or file of its own, and what single columns change."""
    preset = row.get("preset")
    if "config" in row:
        config = Config.from_toml(row["config"], preset=preset)
    elif preset is not None:
        config = Config.from_preset(str(preset))
    changes: dict[str, Any] = {key: row[key] for key in ("seed", "device") if key in row}
    for key, value in row.items():
        if "." in key:
            table, _, setting = key.partition(".")
            changes.setdefault(table, {})[setting] = value
    if config.cache:
        changes["cache"] = str(Path(config.cache).absolute())
    return merge(config, changes, where=where)


def _with_seed(job: Job, seed: int) -> Job:
    output = job.output.with_name(f"{job.output.stem}_seed-{seed}.nwb")
    return replace(job, output=output, config=merge(job.config, {"seed": seed}, where="seeds"))


def _check_distinct(jobs: Sequence[Job]) -> None:
    owners: dict[Path, Job] = {}
    for job in jobs:
        owner = owners.setdefault(job.output, job)
        if owner is not job:
            raise MigvisError(
                f"{owner.session} and {job.session} would both be written to {job.output}; expected a file "
                "each; give names in a column 'output'"
            )
        if not is_address(job.session) and Path(job.session).resolve() == job.output.resolve():
            raise MigvisError(f"{job.session} would be overwritten by its results; give another --out")
