"""The command line: a thin layer over the library."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from nwb_migvis.cli_analyse import analyse
from nwb_migvis.cli_batch import batch_command
from nwb_migvis.cli_files import compare_runs, dandi, export, reproduce_edits, validate
from nwb_migvis.cli_inspect import inspect_command
from nwb_migvis.cli_next import compare_command, export_stimuli_command
from nwb_migvis.cli_options import (
    config_of,
    download_option,
    engine_options,
    log_option,
    memory_option,
    network_option,
    reading_arguments,
    reading_options,
    sorting_arguments,
    sorting_options,
)
from nwb_migvis.cli_priors import train_prior_command
from nwb_migvis.cli_simulate import simulate
from nwb_migvis.engines import Engine
from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.first_steps import FIRST, Commands, completion_command, config_command
from nwb_migvis.recovering import recover


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit 0, 1 (one line on stderr for what the user can fix) or 2 (usage)."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _share_cores()
    try:
        cli.main(args=arguments, prog_name="nwb-migvis", standalone_mode=False)
    except click.exceptions.Abort:
        _fail(_interrupted(arguments), code=130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except MigvisError as error:
        _fail(" ".join(str(error).split()))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(str(error))
    sys.exit(0)


def _share_cores() -> None:
    """Have threads that wait for each other give their core away soon, where others may need it.

    By default GNU's OpenMP, which torch computes with, waits busily for some milliseconds. Beside as many
    busy processes as cores a step of a network then takes up to thirty times as long
    (`benchmarks/bench_busy_cores.py`). It is read when torch is imported; what the user has set is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _interrupted(arguments: list[str] | None) -> str:
    """Return what to say after Ctrl-C: how to go on."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["demo"]:
        return "interrupted; to start again, remove the demo's folder, or give another with --out"
    if words[:1] == ["batch"]:
        return "interrupted; what was done is kept; the same command does only what is missing"
    if words[:1] == ["train-prior"]:
        return "interrupted; the same command goes on from the last state in its --out"
    if words[:1] != ["run"]:
        return "interrupted; nothing was written; the same command starts again"
    if any(word == "--cache" or word.startswith("--cache=") for word in words):
        return "interrupted; nothing was written; the same command goes on from the state in the cache"
    return "interrupted; nothing was written; with --cache DIR a run goes on where it was interrupted"


def _fail(message: str, *, code: int = 1) -> None:
    click.echo(f"nwb-migvis: {message}", err=True)
    sys.exit(code)


@click.group(
    cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="nwb-migvis")
@click.pass_context
def cli(context: click.Context) -> None:
    """What does each part of a visual population encode? Latent groups and guided diffusion for NWB."""
    if context.invoked_subcommand is None:
        click.echo(FIRST)


@cli.command()
@click.option(
    "--out", type=click.Path(), default="migvis_demo", show_default=True, help="Folder for the demo's files."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--train-prior", is_flag=True, help="Train the prior from scratch; do not use the shipped one.")
@click.option("--no-report", is_flag=True, help="Do not write a page about the results.")
@log_option
@click.option("--quiet", is_flag=True, help="No progress bars.")
def demo(out: str, seed: int, train_prior: bool, no_report: bool, quiet: bool) -> None:
    """Simulate a session with known answers, run everything on it, and show what was found."""
    from nwb_migvis.demo import run_demo

    _set_quiet(quiet)
    run_demo(Path(out), seed=seed, train_prior=train_prior, report=not no_report, say=click.echo)


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="PATH...")
@click.option(
    "--out",
    type=click.Path(),
    metavar="FILE",
    help="File to write, or folder for several sessions; default: NAME_migvis.nwb beside the input.",
)
@click.option("--in-place", is_flag=True, help="Write back into PATH (atomically; keeps PATH.bak).")
@click.option("--name", default="migvis", show_default=True, help="Name of the run in the file.")
@click.option("--preset", type=click.Choice(["quick", "paper"]), help="Settings to start from.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(),
    metavar="FILE.toml",
    help="Settings that differ from the preset.",
)
@reading_options
@sorting_options
@click.option("--overwrite", is_flag=True, help="Replace an existing output, or run of this name.")
@click.option("--seed", type=int, help="Seed of every random number.")
@click.option("--device", help="torch device, such as cpu or cuda.")
@click.option("--batch-size", type=int, help="Images per forward pass when editing; bounds memory.")
@click.option(
    "--cache",
    type=click.Path(),
    metavar="DIR",
    help="Folder that keeps trained priors for later runs; a killed run resumes from there.",
)
@click.option(
    "--sweep",
    is_flag=True,
    help="Only compare numbers and sizes of groups; write nothing.",
)
@engine_options("Fits from other seeds, of other folds, or of a sweep")
@click.option(
    "--results-only",
    is_flag=True,
    help="Write a small file of results, with subject and session and without the recording.",
)
@click.option(
    "--backend",
    type=click.Choice(["hdf5", "zarr"]),
    default="hdf5",
    show_default=True,
    help="What to write: an HDF5 file, or a Zarr folder NAME_migvis.nwb.zarr.",
)
@click.option("--remove", metavar="NAME", help="Only remove the run of this name from PATH, or from a copy.")
@click.option("--no-report", is_flag=True, help="Do not write a page about the results beside them.")
@log_option
@click.option("--quiet", is_flag=True, help="No progress bars.")
@network_option
@download_option
@memory_option
def run(paths: tuple[str, ...], **options: Any) -> None:
    """Learn latent groups, synthesize what they encode, and write the results into a copy of PATH.

    PATH is an NWB session; or, with --presentations, a folder that SpikeInterface saved a sorting to.
    Several sessions that saw some of the same images share one latent space; each gets results of its own.
    """
    from nwb_migvis.report import group_table
    from nwb_migvis.runs import SortedSource, run_files, run_sorting
    from nwb_migvis.store import Destination

    _set_quiet(options["quiet"])
    if options["remove"] is not None:
        _remove(paths, options)
        return
    sorting = sorting_arguments(paths, options)
    reading, config = reading_arguments(options), config_of(options)
    engine = Engine.of(options["engine"], options["engine_kwargs"])
    if options["sweep"]:
        _print_sweep(paths, config, engine, reading)
        return
    out, overwrite, name = (options[key] for key in ("out", "overwrite", "name"))
    if sorting and options["results_only"]:
        raise MigvisError(
            "found --results-only with a sorting; expected an NWB session; omit it, and use "
            "`nwb-migvis dandi --results-only` on the file that is written"
        )
    if sorting:
        source = SortedSource(
            paths[0], **sorting, images=reading.pop("images", None), resize_px=reading.pop("resize_px", None)
        )
        done = [
            run_sorting(
                source,
                Destination(out=out, overwrite=overwrite),
                name=name,
                config=config,
                engine=engine,
                **reading,
            )
        ]
    else:
        keys = ("out", "in_place", "overwrite", "results_only", "backend")
        destination = Destination(**{key: options[key] for key in keys})
        done = run_files(paths, destination, name=name, config=config, engine=engine, **reading)
    for written, results in done:
        click.echo(group_table(results))
        click.echo(f"wrote {written}")
        if not options["no_report"]:
            _report_on(written, name, images=reading.get("images"))


def _report_on(written: Path, name: str, *, images: str | None) -> None:
    """Write the page of a finished run; what keeps it from being written does not undo the run."""
    from nwb_migvis.report import report_path, write_report

    folder = images if images and Path(images).is_dir() else None
    try:
        click.echo(f"wrote {write_report(written, name, out=report_path(written, name), images=folder)}")
    except MigvisError as error:
        click.echo(f"no report: {error}")


def _remove(paths: tuple[str, ...], options: dict[str, Any]) -> None:
    from nwb_migvis.store import remove_run

    where = {key: options[key] for key in ("out", "in_place", "overwrite")}
    if len(paths) > 1 and options["out"] is not None:
        raise MigvisError(f"found {len(paths)} files and one --out; expected one of each; omit --out")
    for path in paths:
        click.echo(f"wrote {remove_run(path, options['remove'], **where)}")


def _print_sweep(paths: tuple[str, ...], config: Any, engine: Engine, reading: dict[str, Any]) -> None:
    from nwb_migvis.report import sweep_table
    from nwb_migvis.runs import sweep_file

    for path in paths:
        click.echo(sweep_table(sweep_file(path, config=config, engine=engine, **reading), title=path))


@cli.command()
@click.argument("path", type=click.Path(), metavar="FILE")
@click.option("--group", multiple=True, required=True, help="Group to move; may be repeated.")
@click.option("--source", multiple=True, metavar="ID", help="Stimulus to edit; may be repeated.")
@click.option("--target", multiple=True, metavar="ID", help="Stimulus to aim at; may be repeated.")
@click.option(
    "--strength", multiple=True, type=float, help="Start step / T, in (0, 1]; default: the run's own."
)
@click.option("--gamma", multiple=True, type=float, help="Length of a traversal, instead of targets.")
@click.option(
    "--direction",
    multiple=True,
    help="Of the traversals: ones (default), pc1, ..., a numeric label, or label=value.",
)
@click.option("--n", type=int, help="Targets per source (drawn beyond those given), or sources to draw.")
@click.option("--seed", type=int, help="Seed of what is drawn; default: the run's own.")
@click.option("--name", help="The run, where the file holds several.")
@click.option(
    "--out",
    type=click.Path(),
    metavar="FILE",
    help="File to write; default: NAME_migvis.nwb beside the input.",
)
@click.option("--in-place", is_flag=True, help="Write back into FILE (atomically; keeps FILE.bak).")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option(
    "--images", type=click.Path(), metavar="DIR", help="Folder of the images, where the file has none."
)
@click.option(
    "--labels", type=click.Path(), metavar="CSV", help="Labels of the images: a CSV with a column 'stimulus'."
)
@click.option("--device", help="torch device; default: the run's own.")
@click.option(
    "--batch-size", type=int, help="Images per forward pass; bounds memory. Default: the run's own."
)
@click.option("--quiet", is_flag=True, help="No progress bars.")
@network_option
@memory_option
def synthesize(path: str, **options: Any) -> None:
    """Make further edits from the weights stored in FILE, and add them to the results in a new file."""
    from nwb_migvis.runs import Changes, write_further
    from nwb_migvis.store import Destination
    from nwb_migvis.synthesis.editing.request import EditRequest

    _set_quiet(options["quiet"])
    asked = ("group", "source", "target", "strength", "gamma", "direction", "n", "seed")
    written, results = write_further(
        path,
        EditRequest(**{key: options[key] for key in asked}),
        name=options["name"],
        where=Destination(out=options["out"], in_place=options["in_place"], overwrite=options["overwrite"]),
        changes=Changes(options["device"], options["batch_size"]),
        images=options["images"],
        labels=options["labels"],
    )
    edits = results.synthesized
    first, stop = results.provenance["further_edits"][-1]["edits"]
    gain = float((edits["score_after"] - edits["score_before"])[first:stop].mean())
    click.echo(f"{stop - first} edits made; score of the goal {gain:+.2f} nats on average")
    click.echo(f"wrote {written}")


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
@click.option("--name", help="The run, where a file holds several.")
@click.option(
    "--out",
    "-o",
    type=click.Path(),
    metavar="HTML|PNG",
    help="Page to write; or, as PNG, only the figure of its edits. Default: NAME_report.html beside FILE.",
)
@click.option("--csv", type=click.Path(), metavar="CSV", help="Write the table of groups here, too.")
@click.option(
    "--images", type=click.Path(), metavar="DIR", help="Folder of the images, where the file has none."
)
@network_option
@memory_option
def report(
    paths: tuple[str, ...], name: str | None, out: str | None, csv: str | None, images: str | None
) -> None:
    """Write a page about the results in FILE: what holds, pictures, figures. Print the groups too.

    The page stands alone and is made from the file alone. Several files make one page with a row per session.
    """
    from nwb_migvis.report import group_table, write_groups, write_report
    from nwb_migvis.store import read_results

    read = [read_results(path, name) for path in paths]
    if csv is not None:
        click.echo(f"wrote {write_groups(read, csv)}")
    for path, results in zip(paths, read, strict=True):
        if len(paths) > 1:
            click.echo(printable(path))
        click.echo(group_table(results))
    if out is not None and out.endswith(".png"):
        _draw(paths, name, out=out, images=images)
        return
    click.echo(f"wrote {write_report(paths, name, out=out, images=images)}")


def _draw(paths: tuple[str, ...], name: str | None, *, out: str, images: str | None) -> None:
    from nwb_migvis.extras import FIGURES, require
    from nwb_migvis.report import draw_edits

    require(FIGURES, what="a figure")
    if len(paths) != 1:
        raise MigvisError(f"found {len(paths)} files; expected one for a figure; give --out a page (.html)")
    figure = draw_edits(paths[0], name, out=out, images=images)
    absent = "no figure: the run holds no edits at rising strengths (synthesis.dose)"
    click.echo(f"drew {figure}" if figure else absent)


COMMANDS = (
    inspect_command,
    analyse,
    batch_command,
    compare_runs,
    dandi,
    reproduce_edits,
    export,
    validate,
    simulate,
    export_stimuli_command,
    compare_command,
    train_prior_command,
    recover,
    config_command,
    completion_command,
)
for command in COMMANDS:
    cli.add_command(command)


def _set_quiet(quiet: bool) -> None:
    from nwb_migvis.progress import set_quiet

    set_quiet(quiet)
