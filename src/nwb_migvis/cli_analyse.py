"""The command that computes further analyses of a written run."""

from __future__ import annotations

from typing import Any

import click

from nwb_migvis.cli_options import memory_option, reading_arguments, reading_options
from nwb_migvis.errors import MigvisError


@click.command()
@click.argument("path", type=click.Path(), metavar="FILE")
@click.option(
    "--with", "names", multiple=True, required=True, metavar="NAME", help="Analysis; may be repeated."
)
@click.option("--name", help="The run, where the file holds several.")
@click.option(
    "--windows", multiple=True, metavar="START:STOP", help="Windows to compare, seconds after onset."
)
@click.option("--areas", metavar="COL", help="What tells areas apart: location or electrode_group.")
@click.option("--network", metavar="NAME", help="Network that describes images; prior: the run's own.")
@click.option("--refit", is_flag=True, help="Fit latents anew to each window or area, and from other seeds.")
@click.option("--vocabulary", type=click.Path(), metavar="FILE", help="Words for names, one per line.")
@click.option("--text-network", metavar="NAME", help="Network for them: clip:FOLDER, or a registered one.")
@click.option("--out", type=click.Path(), metavar="FILE", help="File to write; default: NAME_migvis.nwb.")
@click.option("--in-place", is_flag=True, help="Write back into FILE (atomically; keeps FILE.bak).")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@reading_options
@click.option("--quiet", is_flag=True, help="No progress bars.")
@memory_option
def analyse(path: str, names: tuple[str, ...], **options: Any) -> None:
    """Compute further analyses of the run in FILE, such as retrieval, and write them beside its results."""
    from nwb_migvis.config import read_vocabulary
    from nwb_migvis.progress import set_quiet
    from nwb_migvis.results.analysis_table import analysis_lines
    from nwb_migvis.runs import analyse as compute
    from nwb_migvis.store import Destination

    set_quiet(options["quiet"])
    windows_s = tuple(_window(text) for one in options["windows"] for text in one.replace(",", " ").split())
    chosen = {"windows_s": windows_s, "areas": options["areas"], "network": options["network"]}
    chosen["refit"] = options["refit"]
    chosen["text_network"] = options["text_network"]
    if options["vocabulary"]:
        chosen["vocabulary"] = read_vocabulary(options["vocabulary"])
    written, results = compute(
        path,
        names,
        name=options["name"],
        where=Destination(out=options["out"], in_place=options["in_place"], overwrite=options["overwrite"]),
        changes={key: value for key, value in chosen.items() if value},
        **reading_arguments(options),
    )
    for name in dict.fromkeys(names):
        click.echo("\n".join(analysis_lines(name, results.analyses[name])))
    click.echo(f"wrote {written}")


def _window(text: str) -> tuple[float, float]:
    start, _, stop = text.partition(":")
    try:
        return float(start), float(stop)
    except ValueError:
        raise MigvisError(
            f"--windows: found {text!r}; expected START:STOP in seconds after onset, as in 0.07:0.12"
        ) from None
