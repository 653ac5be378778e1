"""Addresses of files that are not on this machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from nwb_migvis.errors import MigvisError

ARCHIVES = {
    "dandi": "https://api.dandiarchive.org/api",
    "dandi-sandbox": "https://api.sandbox.dandiarchive.org/api",
    "sandbox": "https://api.sandbox.dandiarchive.org/api",
}
"""Instances of the DANDI archive, and where each answers."""

API_VARIABLE = "NWB_MIGVIS_DANDI_API"
"""Environment variable with the API of another archive, which then stands for `dandi`."""

_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):(?P<slashes>/+)(?P<rest>.*)", re.DOTALL)
_PLACE = r"(?P<dandiset>\d{6})(?:@(?P<version>draft|\d+\.\d+\.\d+))?"
_DANDI = re.compile(rf"dandi://(?P<archive>[\w-]+)/{_PLACE}/(?P<path>[^/].*)")
_SHORT = re.compile(rf"{_PLACE}:(?P<path>[^/\\].*)")
_ASSET = re.compile(
    r"(?P<api>https?://[^?#]+/api)/(?:dandisets/(?P<dandiset>\d{6})/versions/(?P<version>[^/]+)/)?"
    r"assets/(?P<asset>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/?(?:download/?)?"
)


@dataclass(frozen=True)
class Asset:
    """A file in the DANDI archive: by its id, or by dandiset, version and path.

    Attributes
    ----------
    api : str
        Where the archive answers, without a slash at the end.
    dandiset, version, path, asset : str
        "" where the address does not say.
    """

    api: str
    dandiset: str = ""
    version: str = ""
    path: str = ""
    asset: str = ""


def is_address(text: str) -> bool:
    """Return whether text is an address, and not the path of a file."""
    return _SCHEME.fullmatch(text) is not None or (
        _SHORT.fullmatch(text) is not None and not os.path.lexists(text)
    )


def is_folder(address: str) -> bool:
    """Return whether an address of the web is that of a Zarr folder, by its name."""
    return urlsplit(address).path.rstrip("/").endswith(".zarr")


def whole_address(text: str) -> str:
    """Return an address with both slashes after its scheme, one of which a path type may have taken."""
    match = _SCHEME.fullmatch(text)
    return f"{match['scheme']}://{match['rest']}" if match else text


def asset_at(address: str) -> Asset | None:
    """Return the file of the archive that an address means; None for an address of the web.

    Raises
    ------
    MigvisError
        If it begins as the archive's do and is not one.
    """
    match = _ASSET.fullmatch(address)
    if match:
        return Asset(match["api"], match["dandiset"] or "", match["version"] or "", asset=match["asset"])
    match = _DANDI.fullmatch(address) or _SHORT.fullmatch(address)
    if match is None:
        if address.startswith("dandi:"):
            raise MigvisError(
                f"{address} is not an address in the DANDI archive; expected "
                "dandi://dandi/000004@0.220126.1852/sub-1/sub-1_ses-2.nwb, with a version or without"
            )
        return None
    archive = match.groupdict().get("archive") or "dandi"
    if archive not in ARCHIVES:
        raise MigvisError(
            f"{address}: the archive {archive!r} is unknown; expected one of {', '.join(ARCHIVES)}"
        )
    api = os.environ.get(API_VARIABLE, "") if archive == "dandi" else ""
    api = (api or ARCHIVES[archive]).rstrip("/")
    return Asset(api, match["dandiset"], match["version"] or "", match["path"])


def name_at(address: str) -> str:
    """Return the name of the file at an address of the web."""
    name = unquote(urlsplit(address).path).rstrip("/").rpartition("/")[2]
    return re.sub(r"[\\/:\0]", "_", name) or "session.nwb"


def public_address(address: str) -> str:
    """Return an address without its query and without user and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", address.partition("?")[0])
