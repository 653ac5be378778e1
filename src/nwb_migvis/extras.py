"""Whether the packages that a command needs are installed."""

from __future__ import annotations

import importlib.util

from nwb_migvis.errors import MigvisError

MODELS = ("torch", "diffusers", "safetensors", "scipy", "sklearn")
SIMULATION = ("spikeinterface", "scipy")
FIGURES = ("matplotlib",)
REPORT = ("matplotlib", "jinja2")
REMOTE = ("fsspec", "aiohttp", "s3fs")
CLUSTER = ("dask", "distributed")


def require(packages: tuple[str, ...], *, what: str, extra: str = "models") -> None:
    """Raise where a package is missing, naming the extra that brings it.

    Parameters
    ----------
    packages : tuple of str
        Import names.
    what : str
        What needs them.
    extra : str
        What brings them.

    Raises
    ------
    MigvisError
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise MigvisError(
            f"{', '.join(missing)} not installed; {what} needs the extra {extra!r}: "
            f"pip install 'nwb-migvis[{extra}]'"
        )
