"""Commands on files with results: publish, make again, export, check."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from nwb_migvis.cli_options import memory_option, network_option
from nwb_migvis.errors import MigvisError


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
@click.argument("folder", type=click.Path(), metavar="DIR")
@click.option("--results-only", is_flag=True, help="Publish the results without the recordings.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option(
    "--derivatives", is_flag=True, help="Use the layout of derivatives of many sessions, as Dandiset 001697."
)
@click.option(
    "--dandiset", default="", metavar="NNNNNN", help="Where the sessions are, if FILE does not say."
)
@network_option
def dandi(paths: tuple[str, ...], folder: str, **how: Any) -> None:
    """Lay FILE out in DIR as the DANDI archive wants it, and validate DIR where dandi is installed."""
    from nwb_migvis.runs import archive_findings, lay_out

    for place in lay_out(paths, folder, **how):
        click.echo(f"wrote {place}")
    findings = archive_findings(folder)
    if findings is None:
        click.echo(f"not validated: dandi is not installed; pip install dandi, then: dandi validate {folder}")
        return
    for finding in findings:
        click.echo(finding)
    if findings:
        raise MigvisError(f"{folder}: dandi validate found faults; expected none; correct them and run again")
    click.echo(f"{folder}: valid by dandi validate")


@click.command("compare-runs")
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
@click.option("--out", type=click.Path(), metavar="PNG|PDF|SVG", help="Figure to write.")
@memory_option
def compare_runs(paths: tuple[str, ...], out: str | None) -> None:
    """Set runs side by side: all runs of one FILE (other windows, areas, settings), or those of several.

    `run --in-place --name early --window 0.05 0.1` adds a run to a file.
    """
    from nwb_migvis.analysis import comparing
    from nwb_migvis.store import read_results

    if len(paths) == 1:
        comparison = comparing.compare_runs(paths[0])
    else:
        names = [Path(path).stem for path in paths]
        comparison = comparing.compare_runs([read_results(path) for path in paths], names)
    click.echo(comparison.table())
    if out is not None:
        click.echo(f"wrote {_draw_comparison(comparison.side_by_side(), out)}")


def _draw_comparison(table: Any, out: str) -> str:
    from nwb_migvis import plot

    with plot.style():
        figure: Any = plot.side_by_side(table, label="fraction of the repeatable variance").figure
        try:
            figure.savefig(out)
        except (OSError, ValueError) as error:
            raise MigvisError(f"{out}: {error}; give --out another path, such as compared.png") from None
    return out


@click.command(name="reproduce")
@click.argument("path", type=click.Path(), metavar="FILE")
@click.option("--name", help="The run, where the file holds several.")
@click.option("--images", type=click.Path(), metavar="DIR", help="Folder of the images, where FILE has none.")
@network_option
@memory_option
def reproduce_edits(path: str, name: str | None, images: str | None) -> None:
    """Make the stored edits again from FILE alone, and say how far they differ."""
    from nwb_migvis.runs import reproduce

    click.echo(reproduce(path, name, images=images))


@click.command()
@click.argument("path", type=click.Path(), metavar="FILE")
@click.argument("folder", type=click.Path(), metavar="DIR")
@click.option("--name", help="The run, where the file holds several.")
@network_option
@memory_option
def export(path: str, folder: str, name: str | None) -> None:
    """Write the results in FILE into a new DIR: tables as CSV, edits as PNG with a CSV."""
    from nwb_migvis.store import read_results

    results = read_results(path, name)
    tables = results.to_tables(folder)
    images = results.to_images(Path(folder) / "edits") if results.synthesized.sizes["edit"] else []
    click.echo(f"wrote {len(tables)} tables and {len(images)} images into {folder}")


@click.command()
@click.argument("path", type=click.Path())
@network_option
@memory_option
def validate(path: str) -> None:
    """Check a file against the NWB schema, this package's own rules, and nwbinspector where installed."""
    from nwb_migvis.runs import fetched_file, finding_lines, validate_written
    from nwb_migvis.store import list_runs

    with fetched_file(path, what="file") as file:
        findings, names = validate_written(file), list_runs(file)
    for line in finding_lines(findings):
        click.echo(line)
    serious = [finding for finding in findings if finding.importance == "error"]
    if serious:
        raise MigvisError(
            f"{path}: {len(serious)} of {len(findings)} findings are errors; fix them and validate again"
        )
    runs = ", ".join(names)
    holding = f"results of {runs}" if runs else "no results: `nwb-migvis run` writes them"
    click.echo(f"{path}: valid" + (f" ({len(findings)} remarks)" if findings else "") + f"; holds {holding}")
    if find_spec("nwbinspector") is None:
        click.echo("not checked: best practices of the archive; pip install nwbinspector")
