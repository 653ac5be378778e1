"""Options that commands share, and what they become as arguments of the library."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click

from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.memory import memory_limit
from nwb_migvis.progress import telling
from nwb_migvis.sources.stream import stream_cache as cache_streams
from nwb_migvis.synthesis.prior.hub import downloads

F = TypeVar("F", bound=Callable[..., Any])


def reading_options(command: F) -> F:
    """Add the options that say how a session is read."""
    options = [
        click.option(
            "--images",
            type=click.Path(),
            metavar="DIR|CSV",
            help="Images, where the file has none: a folder, or a CSV with columns 'stimulus' and 'file'.",
        ),
        click.option(
            "--labels",
            type=click.Path(),
            metavar="CSV",
            help="Labels of the images: a CSV with a column 'stimulus'.",
        ),
        click.option("--where", metavar="COL", help="Boolean presentation column that must be true."),
        click.option(
            "--units", metavar="QUERY", help="Query on the Units columns, such as \"quality == 'good'\"."
        ),
        click.option(
            "--window",
            type=float,
            nargs=2,
            metavar="START STOP",
            help="Counting window after onset, in seconds; default: that of runs in the file, or 0.07 0.17.",
        ),
        click.option("--layout", metavar="NAME", help="Layout to read, where several fit."),
        click.option("--stimulus", metavar="COL", help="Presentation column that names the image."),
        click.option("--allow-outside", is_flag=True, help="Allow image paths that leave the file's folder."),
        click.option(
            "--resize",
            "resize_px",
            type=click.IntRange(min=1),
            nargs=2,
            metavar="HEIGHT WIDTH",
            help="Size of the images in pixels, where their sizes differ.",
        ),
        click.option(
            "--channel-order",
            type=click.Choice(["rgb", "bgr"]),
            help="Order of colour channels in the file; default: rgb.",
        ),
    ]
    options += [
        click.option(
            "--index-base",
            type=click.IntRange(0, 1),
            help="Number of the first image, where the file counts images and does not say.",
        ),
        click.option(
            "--merge-repeats/--no-merge-repeats",
            default=None,
            help="Whether samples that repeat the image before them are one presentation.",
        ),
        click.option(
            "--allow-long-window",
            is_flag=True,
            help="Allow windows beyond 2 s, or longer than the interval of presentations.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def memory_option(command: F) -> F:
    """Add the option that allows a file more memory, or less, than its size does."""

    @click.option(
        "--max-memory",
        type=click.FloatRange(min=0, min_open=True),
        metavar="GB",
        help="Memory for one dataset of a file, or all results of a run; default: 0.5, or 50 file sizes.",
    )
    @functools.wraps(command)
    def limited(*arguments: Any, max_memory: float | None, **options: Any) -> Any:
        with memory_limit(None if max_memory is None else 1e9 * max_memory):
            return command(*arguments, **options)

    return limited  # type: ignore[return-value]


def network_option(command: F) -> F:
    """Add the option of a folder that keeps what is fetched over the network."""

    @click.option(
        "--stream-cache",
        type=click.Path(),
        metavar="DIR",
        help="Of a FILE at an address: keep what is fetched in this folder, for later commands.",
    )
    @functools.wraps(command)
    def cached(*arguments: Any, stream_cache: str | None, **options: Any) -> Any:
        with cache_streams(stream_cache):
            return command(*arguments, **options)

    return cached  # type: ignore[return-value]


def download_option(command: F) -> F:
    """Add the option that allows a prior of the hub to be fetched."""

    @click.option(
        "--download", is_flag=True, help="Fetch a prior of the hub (prior.start) that is not in its cache."
    )
    @functools.wraps(command)
    def allowed(*arguments: Any, download: bool, **options: Any) -> Any:
        with downloads(download):
            return command(*arguments, **options)

    return allowed  # type: ignore[return-value]


def engine_options(what: str) -> Callable[[F], F]:
    """Return what adds the options of how units of work are done; `engine_kwargs` becomes a dict."""

    def added(command: F) -> F:
        @click.option(
            "--engine",
            type=click.Choice(["loop", "joblib", "dask"]),
            default="loop",
            show_default=True,
            help=f"{what}: one after another, in processes of this machine, or by workers of dask.",
        )
        @click.option(
            "--engine-kwargs",
            multiple=True,
            metavar="NAME=VALUE",
            help="joblib: n_jobs=2. dask: address=tcp://HOST:8786. May be repeated.",
        )
        @functools.wraps(command)
        def parsed(*arguments: Any, engine_kwargs: tuple[str, ...], **options: Any) -> Any:
            return command(*arguments, engine_kwargs=dict(map(_engine_setting, engine_kwargs)), **options)

        return parsed  # type: ignore[return-value]

    return added


def _engine_setting(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise MigvisError(f"--engine-kwargs: found {text!r}; expected NAME=VALUE, as in n_jobs=2")
    return name, int(value) if re.fullmatch(r"-?[0-9]+", value) else value


def log_option(command: F) -> F:
    """Add the option of a dated log; where nobody watches bars, the command says a line per stage."""

    @click.option(
        "--log",
        type=click.Path(),
        metavar="FILE",
        help="Add stages, seconds, losses and warnings to this file, each with its date.",
    )
    @functools.wraps(command)
    def logged(*arguments: Any, log: str | None, **options: Any) -> Any:
        with telling(click.echo, log=log):
            return command(*arguments, **options)

    return logged  # type: ignore[return-value]


def sorting_options(command: F) -> F:
    """Add the options of a run on a folder of sorted units."""
    options = [
        click.option(
            "--presentations",
            type=click.Path(),
            metavar="CSV",
            help="Of a sorting: onset (start_time, s) and image (stimulus) of each presentation.",
        ),
        click.option(
            "--unit-query",
            metavar="QUERY",
            help='Of a sorting: query on its metrics, such as "snr > 5".',
        ),
        click.option(
            "--into",
            type=click.Path(),
            metavar="NWB",
            help="Of a sorting: session without units that is copied with them.",
        ),
        click.option(
            "--metadata",
            type=click.Path(),
            metavar="TOML",
            help="Of a sorting: metadata of a new session.",
        ),
        click.option(
            "--t-start",
            type=float,
            metavar="SECONDS",
            help="Of a sorting: when its recording began, where that cannot be read.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def sorting_arguments(paths: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run on sorted units, none for a run on NWB sessions; refuse what mixes both."""
    of_sorting = {
        key: options[key]
        for key in ("presentations", "unit_query", "into", "metadata", "t_start")
        if options[key] is not None
    }
    if not of_sorting:
        return of_sorting
    if "presentations" not in of_sorting:
        given = next(iter(of_sorting)).replace("_", "-")
        raise MigvisError(
            f"found --{given} without --presentations; expected a folder of sorted units and "
            "--presentations CSV; for NWB sessions, omit it (their units are chosen with --units)"
        )
    if len(paths) != 1:
        raise MigvisError(
            f"found {len(paths)} paths with --presentations; expected one folder of sorted units"
        )
    for key, why in (
        ("in_place", "the results go into a new file; give --out"),
        ("stimulus", "the image is in the column 'stimulus' of the presentations"),
        ("channel_order", "it is about images stored in an NWB file"),
    ):
        if options.get(key):
            raise MigvisError(f"found --{key.replace('_', '-')} with --presentations; {why}; omit it")
    return of_sorting


def reading_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Turn the reading options of a command into arguments of `read_session`."""
    refuse_empty(options)
    texts = ("images", "labels", "where", "units", "layout", "stimulus", "resize_px", "channel_order")
    choices = ("index_base", "merge_repeats")
    reading = {key: options[key] for key in (*texts, *choices) if options[key] is not None}
    reading |= {key: True for key in ("allow_outside", "allow_long_window") if options[key]}
    return reading | ({} if options["window"] is None else {"window_s": tuple(options["window"])})


def next_command(paths: tuple[str, ...], options: dict[str, Any]) -> str:
    """Return the command that runs on what was inspected, with the same options."""
    words = ["nwb-migvis", "run", *paths]
    for key, value in options.items():
        name = "resize" if key == "resize_px" else key.replace("_", "-")
        if isinstance(value, bool) and key == "merge_repeats":
            words.append("--merge-repeats" if value else "--no-merge-repeats")
        elif value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            words += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return printable(shlex.join(words))


def refuse_empty(options: dict[str, Any]) -> None:
    """Refuse options that are given without a value."""
    for key, value in options.items():
        if value == "":
            name = key.removesuffix("_path").replace("_", "-")
            raise MigvisError(f"--{name} is empty; give a value, or omit the option")


def config_of(options: dict[str, Any]) -> Any:
    """Return the settings that a run's options ask for."""
    from nwb_migvis.config import Config

    if options["config_path"]:
        config = Config.from_toml(options["config_path"], preset=options["preset"])
    else:
        config = Config.from_preset(options["preset"] or "quick")
    if options["batch_size"] is not None:
        config = replace(config, synthesis=replace(config.synthesis, batch_size=options["batch_size"]))
    overrides = {key: options[key] for key in ("seed", "device", "cache") if options[key] is not None}
    return replace(config, **overrides)
