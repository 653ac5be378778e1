"""The command that writes results which outlived the failure of their writing."""

from __future__ import annotations

from typing import Any

import click


@click.command()
@click.argument("sidecar", type=click.Path())
@click.option("--source", type=click.Path(), required=True, metavar="FILE", help="The session's NWB file.")
@click.option("--out", type=click.Path(), metavar="FILE", help="File to write; default: NAME_migvis.nwb.")
@click.option("--in-place", is_flag=True, help="Write back into the session (atomically; keeps a backup).")
@click.option("--overwrite", is_flag=True, help="Replace an existing output, or run of this name.")
@click.option("--backend", type=click.Choice(["hdf5", "zarr"]), default="hdf5", help="Format of the output.")
def recover(sidecar: str, source: str, **where: Any) -> None:
    """Write the results that a run left in SIDECAR, because their session could not be written then."""
    from nwb_migvis.store import restore_sidecar

    click.echo(f"wrote {restore_sidecar(sidecar, source=source, **where)}; {sidecar} can be removed")
