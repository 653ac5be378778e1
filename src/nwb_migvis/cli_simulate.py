"""The command that simulates sessions, and further sessions of the same units."""

from __future__ import annotations

from typing import Any

import click

from nwb_migvis.errors import MigvisError

_SCENE = ("solids", "pictures", "photographs", "background")


@click.command()
@click.argument("path", type=click.Path())
@click.option("--seed", type=int, help="Of all that is drawn; default: 0, of a further session 1.")
@click.option("--n-stimuli", type=int, help="Images in the session.")
@click.option("--n-repeats", type=int, help="Presentations of each image.")
@click.option("--size", "size_px", type=int, help="Side of the images, in pixels.")
@click.option(
    "--population",
    type=click.Choice(["factors", "pixels"]),
    help="What rates depend on: factors of the images (default), or their pixels.",
)
@click.option(
    "--features",
    type=click.Choice(["random", "efficientnet-lite0", "both"]),
    help="What units that respond to pixels read; default: random.",
)
@click.option("--tuning", type=click.Choice(["bumps", "monotone", "sparse"]), help="Default: bumps.")
@click.option(
    "--solids", type=click.Choice(["objects", "compounds", "superquadrics"]), help="Default: objects."
)
@click.option("--background", type=click.Choice(["textured", "plain"]), help="Default: textured.")
@click.option("--photographs", type=click.Path(), metavar="DIR", help="Photographs behind the objects.")
@click.option(
    "--pictures",
    type=click.Path(),
    metavar="DIR",
    help="Pictures in place of solids: files with transparency, and labels.csv (file, category).",
)
@click.option("--respond-to", type=click.Path(), metavar="DIR", help="Show these pictures to known units.")
@click.option("--units-of", type=click.Path(), metavar="FILE", help="The session whose units see them.")
@click.option("--sorted-again", is_flag=True, help="Units see them in another order, some lost.")
@click.option("--overwrite", is_flag=True)
def simulate(path: str, **options: Any) -> None:
    """Write a ground-truth session to PATH: rendered objects and a population with planted groups.

    With --respond-to and --units-of, write a further session in which the units of a session with
    --population pixels are shown pictures, such as `export-stimuli` writes.
    """
    from nwb_migvis.extras import SIMULATION, require

    require(SIMULATION, what="a simulation")
    given = {key: value for key, value in options.items() if value not in (None, False)}
    written = _next(path, given) if {"respond_to", "units_of"} & set(given) else _first(path, given)
    click.echo(f"wrote {written}")


def _first(path: str, given: dict[str, Any]) -> Any:
    from nwb_migvis.simulate import Scene, simulate_session

    _refuse({"sorted_again"} & set(given), "without --respond-to; it is about a further session")
    scene = {key: given.pop(key) for key in _SCENE if key in given}
    return simulate_session(path, **given, scene=Scene(**scene) if scene else None)


def _next(path: str, given: dict[str, Any]) -> Any:
    from nwb_migvis.simulate import simulate_next_session

    if not {"respond_to", "units_of"} <= set(given):
        raise MigvisError(
            "found one of --respond-to and --units-of; expected both: pictures, and whose units"
        )
    takes = {"respond_to", "units_of", "seed", "n_repeats", "sorted_again", "overwrite"}
    _refuse(set(given) - takes, "with --respond-to; the first session says it")
    return simulate_next_session(path, given.pop("respond_to"), **given)


def _refuse(options: set[str], why: str) -> None:
    if options:
        name = sorted(options)[0].removesuffix("_px").replace("_", "-")
        raise MigvisError(f"found --{name} {why}; omit it")
