"""The command that says what would be read, what a run takes here, and what to type next."""

from __future__ import annotations

import json
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from nwb_migvis.cli_options import (
    memory_option,
    network_option,
    next_command,
    reading_arguments,
    reading_options,
    sorting_arguments,
    sorting_options,
)
from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.plain import Json


@click.command("inspect")
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="PATH...")
@reading_options
@sorting_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON; without an estimate.")
@click.option(
    "--estimate/--no-estimate", default=True, help="Whether to estimate time and memory of a run here."
)
@network_option
@memory_option
def inspect_command(paths: tuple[str, ...], as_json: bool, estimate: bool, **options: Any) -> None:
    """Say what would be read from PATH: layout, units, presentations, images, labels; and what a run takes.

    PATH is an NWB session, or a folder that SpikeInterface saved a sorting or an analyzer to.
    """
    from nwb_migvis.read import describe
    from nwb_migvis.sources.folder import zarr_folder

    sorting = sorting_arguments(paths, options)
    folder = Path(paths[0])
    if not sorting and len(paths) == 1 and folder.is_dir() and zarr_folder(folder) is None:
        _inspect_folder(paths[0], as_json=as_json)
        return
    contents = _contents(paths, sorting, options)
    if as_json:
        click.echo(json.dumps(contents, indent=2))
        return
    click.echo(describe(contents))
    if estimate:
        click.echo("run here: ", nl=False)
        click.echo(_estimate(contents))
    click.echo(f"next: {next_command(paths, options)}")


def _contents(paths: tuple[str, ...], sorting: dict[str, Any], options: dict[str, Any]) -> Json:
    from nwb_migvis.evidence.design import design_notes
    from nwb_migvis.read import inspect_session, inspection, session_from_sorting
    from nwb_migvis.sorting import load_sorting, read_presentations

    reading = reading_arguments(options)
    if not sorting:
        return inspect_session(paths[0] if len(paths) == 1 else list(paths), remark=design_notes, **reading)
    session = session_from_sorting(
        load_sorting(paths[0]),
        read_presentations(sorting["presentations"]),
        reading.pop("images", None),
        **{key: sorting[key] for key in ("unit_query", "t_start") if key in sorting},
        **{key: value for key, value in reading.items() if key not in ("units", "layout")},
    )
    return inspection(session) | {"notes": design_notes(session)}


def _inspect_folder(path: str, *, as_json: bool) -> None:
    from nwb_migvis.sorting import describe_sorting, inspect_sorting

    try:
        contents = inspect_sorting(path)
    except MigvisError as error:
        raise MigvisError(f"found a folder, expected an NWB file or sorted units: {error}") from error
    if as_json:
        click.echo(json.dumps(contents, indent=2))
        return
    click.echo(describe_sorting(contents))
    command = printable(shlex.join(["nwb-migvis", "inspect", path]))
    click.echo(f"next: {command} --presentations presentations.csv --images DIR; then `run` with the same")


def _estimate(contents: Json) -> str:
    """Return what a run with the preset takes, or why that is not known."""
    from nwb_migvis.config import Config

    if find_spec("torch") is None or find_spec("diffusers") is None:
        return 'not estimated: torch is not installed; pip install "nwb-migvis[models]"'
    from nwb_migvis.analysis.rehearsal import Sizes, estimate_run

    try:
        return str(estimate_run(Sizes.of(contents), Config.from_preset("quick")))
    except MigvisError as error:
        return f"not estimated: {error}"
