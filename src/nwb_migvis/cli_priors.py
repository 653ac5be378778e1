"""The command that trains a prior on a folder of images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from nwb_migvis.cli_options import config_of, download_option, log_option


@click.command("train-prior")
@click.argument("folder", type=click.Path(), metavar="DIR")
@click.option("--out", type=click.Path(), metavar="FOLDER", required=True, help="Folder of the prior.")
@click.option("--size", "size_px", type=int, metavar="PX", help="Side of its images; default: 64.")
@click.option("--steps", "n_steps", type=int, help="Training steps; default: 3000.")
@click.option("--gray/--colour", "gray", default=None, help="Channels; default: as the images are.")
@click.option("--start", metavar="PRIOR", help="Train this prior on: a folder, or an id of the hub.")
@click.option("--preset", type=click.Choice(["quick", "paper"]), help="Settings to start from.")
@click.option(
    "--config", "config_path", type=click.Path(), metavar="FILE.toml", help="Settings that differ from it."
)
@click.option("--seed", type=int, help="Seed of every random number.")
@click.option("--device", help="torch device, such as cpu or cuda.")
@click.option(
    "--samples-every", type=int, default=500, show_default=True, help="Steps between two pictures of samples."
)
@download_option
@log_option
@click.option("--quiet", is_flag=True, help="No progress bars.")
def train_prior_command(folder: str, out: str, **options: Any) -> None:
    """Train a diffusion prior on the images in DIR, from which sessions start: prior.start = FOLDER.

    Killed training goes on with the same command. As it goes, FOLDER/samples.png shows samples.
    """
    from nwb_migvis.progress import set_quiet
    from nwb_migvis.runs import Training, train_prior_on

    set_quiet(options["quiet"])
    config = config_of({**options, "batch_size": None, "cache": None})
    own = {key: options[key] for key in ("size_px", "n_steps", "start") if options[key] is not None}
    config = replace(config, prior=replace(config.prior, **own))
    colour = None if options["gray"] is None else not options["gray"]
    written = train_prior_on(folder, out, Training(config, colour, options["samples_every"]))
    click.echo(f"wrote {written}")
    click.echo(f'sessions start from it with prior.start = "{written}" in their settings')
