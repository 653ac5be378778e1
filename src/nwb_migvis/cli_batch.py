"""The command that runs many sessions."""

from __future__ import annotations

from typing import Any

import click

from nwb_migvis.cli_options import (
    config_of,
    engine_options,
    memory_option,
    network_option,
    reading_arguments,
    reading_options,
)
from nwb_migvis.errors import MigvisError


@click.command("batch")
@click.argument("sessions", nargs=-1, required=True, metavar="GLOB_OR_CSV")
@click.option("--out", type=click.Path(), required=True, metavar="DIR", help="Folder of outputs and tables.")
@engine_options("Sessions")
@click.option("--n-threads", type=click.IntRange(min=0), default=0, help="Threads of each session.")
@click.option("--seeds", multiple=True, type=int, help="Run every session with this seed; may be repeated.")
@click.option("--name", default="migvis", show_default=True, help="Name of the run in each file.")
@click.option("--preset", type=click.Choice(["quick", "paper"]), help="Settings to start from.")
@click.option("--config", "config_path", type=click.Path(), metavar="FILE.toml", help="Settings that differ.")
@reading_options
@click.option("--overwrite", is_flag=True, help="Make again what was made with other settings or files.")
@click.option("--seed", type=int, help="Seed of every random number.")
@click.option("--device", help="torch device, such as cpu or cuda.")
@click.option("--batch-size", type=int, help="Images per forward pass when editing; bounds memory.")
@click.option("--cache", type=click.Path(), metavar="DIR", help="Folder that keeps trained priors.")
@click.option("--results-only", is_flag=True, help="Write small files of results, without the recordings.")
@click.option("--no-report", is_flag=True, help="Do not write a page about all sessions.")
@click.option("--quiet", is_flag=True, help="No line per session.")
@network_option
@memory_option
def batch_command(sessions: tuple[str, ...], **options: Any) -> None:
    """Run many sessions, each by itself: one table and one page of all; called again, only what is missing.

    GLOB_OR_CSV is a pattern in quotes, several files, or a CSV with a column 'session' and options per row.
    A session that fails is a row of sessions.csv with its error, and does not stop the others.
    """
    from nwb_migvis.batch import job_list, run_batch
    from nwb_migvis.batch.jobs import without_outputs

    given: Any = sessions[0] if len(sessions) == 1 else without_outputs(sessions, options["out"])
    jobs = job_list(
        given,
        options["out"],
        config=config_of(options),
        seeds=options["seeds"],
        name=options["name"],
        results_only=options["results_only"],
        reading=reading_arguments(options),
    )
    done = run_batch(
        jobs,
        engine=options["engine"],
        engine_kwargs=options["engine_kwargs"],
        n_threads=options["n_threads"],
        overwrite=options["overwrite"],
        report=not options["no_report"],
        say=None if options["quiet"] else click.echo,
    )
    click.echo(f"wrote {options['out']}/sessions.csv and groups.csv")
    if done.report is not None:
        click.echo(f"wrote {done.report}")
    if done.no_report:
        click.echo(f"no report: {done.no_report}")
    if len(done.failed):
        raise MigvisError(
            f"{len(done.failed)} of {len(jobs)} sessions failed; the column 'error' of "
            f"{options['out']}/sessions.csv says why; mend them and give the same command again"
        )
