"""Commands of the next experiment: pictures to show, and what the session in which they were shown says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from nwb_migvis.cli_options import memory_option, reading_arguments, reading_options


@click.command("export-stimuli")
@click.argument("path", type=click.Path(), metavar="FILE")
@click.option("--out", type=click.Path(), metavar="DIR", required=True, help="A new or an empty folder.")
@click.option("--size", "size_px", type=int, metavar="PX", help="Longest side; default: the edits' own.")
@click.option("--group", multiple=True, help="Only edits of this group; may be repeated.")
@click.option("--method", multiple=True, help="Only edits by this method; may be repeated.")
@click.option("--role", multiple=True, help="Edits of this role; may be repeated.  [default: main]")
@click.option("--pairs", "max_pairs", type=int, help="Pairs of source and target per group.")
@click.option("--name", help="The run, where the file holds several.")
@click.option("--images", type=click.Path(), metavar="DIR", help="Folder of the images, where FILE has none.")
@memory_option
def export_stimuli_command(path: str, out: str, **options: Any) -> None:
    """Write the edits in FILE, their controls and the real images as PNG, to be shown in another session.

    Beside them, stimuli.csv says what each picture should do, and predicted_rates.csv what it should evoke.
    """
    from nwb_migvis.runs import export_stimuli

    which = ("group", "method", "role")
    given = {key: value for key, value in options.items() if value or key not in which}
    files = export_stimuli(path, out, **given)
    click.echo(f"wrote {len(files)} pictures into {out}")
    click.echo(f"when they were shown: nwb-migvis compare {path} SESSION.nwb")


@click.command("compare")
@click.argument("path", type=click.Path(), metavar="FILE")
@click.argument("measured", type=click.Path(), metavar="MEASURED")
@click.option("--name", help="The run, where FILE holds several.")
@click.option(
    "--match",
    type=click.Choice(["ids", "images"]),
    default="ids",
    show_default=True,
    help="How units are matched: by id, or by their responses to images that both sessions showed.",
)
@click.option(
    "--stimuli",
    type=click.Path(),
    metavar="CSV",
    help="What MEASURED calls the pictures: columns 'stimulus' and 'file'.",
)
@reading_options
@click.option("--csv", type=click.Path(), metavar="DIR", help="Write the tables into this folder.")
@click.option("--figure", type=click.Path(), metavar="PNG", help="Draw the figure here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@memory_option
def compare_command(path: str, measured: str, **options: Any) -> None:
    """Score MEASURED, the session in which the edits in FILE were shown: predicted and measured responses.

    The options of reading are those of MEASURED.
    """
    from nwb_migvis.extras import FIGURES, require
    from nwb_migvis.runs import compare

    where = {key: options.pop(key) for key in ("csv", "figure", "as_json")}
    own = {key: options.pop(key) for key in ("name", "match", "stimuli")}
    if where["figure"] is not None:
        require(FIGURES, what="a figure")
    found = compare(path, measured, **own, **reading_arguments(options))
    click.echo(json.dumps(found.to_dict(), indent=2) if where["as_json"] else found.table())
    if where["csv"] is not None:
        for file in found.to_tables(where["csv"]):
            click.echo(f"wrote {file}", err=where["as_json"])
    if where["figure"] is not None:
        from nwb_migvis.plot import draw_measured

        click.echo(f"wrote {draw_measured(found, Path(where['figure']))}", err=where["as_json"])
