"""Where the DANDI archive keeps the bytes of a file or a Zarr folder, asked of its API."""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json
from nwb_migvis.sources.address import Asset
from nwb_migvis.sources.listing import MOST_FILES, FileThere

_SECONDS = 60
"""How long an answer may take."""

_MOST_BYTES = 2**24
"""Of an answer."""


@dataclass(frozen=True)
class Located:
    """Where the archive keeps a file or a Zarr folder.

    Attributes
    ----------
    url : str
        Address of the file's bytes; of a folder, of what its files' names follow.
    record : dict
        `dandiset` and `version` (where they are known), `asset_id`, `asset_path`, and the archive's digest
        where it has computed it: `sha256` of a file, `zarr_checksum` of a folder.
    listed_at : str
        Where the files of a folder are listed; "" of a file.
    """

    url: str
    record: Json
    listed_at: str = ""


def locate(asset: Asset, *, address: str) -> Located:
    """Return where the archive keeps a file or a Zarr folder, and what it records of it.

    Parameters
    ----------
    asset : Asset
        Without a version, the last that was published is taken, else the draft.
    address : str
        As the user gave it, for messages.

    Returns
    -------
    Located

    Raises
    ------
    MigvisError
        If the archive does not answer, or does not have the file.
    """
    if asset.dandiset and not asset.version:
        asset = replace(asset, version=_last_version(asset, address))
    if asset.asset:
        about, zarr_id = _answer(f"{_assets(asset)}{asset.asset}/", address), None
        if "zarr" in str(about.get("encodingFormat", "")):
            zarr_id = _answer(f"{_assets(asset)}{asset.asset}/info/", address).get("zarr")
    else:
        query = urlencode({"path": asset.path, "order": "path", "metadata": "true"})
        listed = _answer(f"{_assets(asset)}?{query}", address).get("results", [])
        own = next((one for one in listed if one.get("path") == asset.path), None)
        if own is None:
            raise MigvisError(
                f"{address}: version {asset.version} of dandiset {asset.dandiset} has no file {asset.path}; "
                "expected the path of a file, as the archive's page lists it"
            )
        about, zarr_id = {**(own.get("metadata") or {}), "identifier": own.get("asset_id")}, own.get("zarr")
    listed_at = f"{asset.api}/zarr/{quote(str(zarr_id))}/files/" if zarr_id else ""
    return Located(_bytes_of(about, asset.api, address), _record(asset, about), listed_at)


def files_of(listed_at: str, *, address: str) -> list[FileThere]:
    """Return the files of a Zarr folder, as the archive lists them.

    Parameters
    ----------
    listed_at : str
        See `Located`.
    address : str
        As the user gave it, for messages.

    Raises
    ------
    MigvisError
        If the archive does not answer, or not with a list of files.
    """
    files: list[FileThere] = []
    page: Any = listed_at
    while page:
        if not str(page).startswith(("https://", "http://")):
            raise MigvisError(f"{address}: the archive lists more files at {page!r}; expected a web address")
        answer = _answer(str(page), address)
        try:
            found = [_file_there(row) for row in answer["results"]]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise MigvisError(
                f"{address}: {page} lists no files as the DANDI archive does; expected Key, Size and ETag"
            ) from None
        files += found
        page = answer.get("next")
        if page and (not found or len(files) > MOST_FILES):
            raise MigvisError(
                f"{address}: the archive's list of its files does not end after {len(files)}; expected at "
                f"most {MOST_FILES}; dandi download it and give its path"
            )
    return files


def _file_there(row: Json) -> FileThere:
    state = str(row["ETag"]).strip('"')
    md5 = state if re.fullmatch("[0-9a-f]{32}", state) else ""  # of a file that was uploaded in one part
    return FileThere(str(row["Key"]), int(row["Size"]), state, md5)


def _assets(asset: Asset) -> str:
    if not asset.dandiset:
        return f"{asset.api}/assets/"
    return f"{asset.api}/dandisets/{asset.dandiset}/versions/{quote(asset.version)}/assets/"


def _last_version(asset: Asset, address: str) -> str:
    about = _answer(f"{asset.api}/dandisets/{asset.dandiset}/", address)
    published = about.get("most_recent_published_version") or {}
    return str(published.get("version") or "draft")


def _bytes_of(about: Json, api: str, address: str) -> str:
    """Return where the bytes are: where the archive stores them, rather than its redirection there."""
    urls = [url for url in about.get("contentUrl", []) if str(url).startswith(("https://", "http://"))]
    stored = [url for url in urls if not url.startswith(f"{api}/")]
    if not urls:
        raise MigvisError(
            f"{address}: the archive does not say where the file's bytes are; expected a contentUrl; "
            "download it with dandi download"
        )
    return (stored or urls)[0]


def _record(asset: Asset, about: Json) -> Json:
    record = {
        "dandiset": asset.dandiset,
        "version": asset.version,
        "asset_id": about.get("identifier") or asset.asset,
        "asset_path": about.get("path") or asset.path,
        "sha256": (about.get("digest") or {}).get("dandi:sha2-256"),
        "zarr_checksum": (about.get("digest") or {}).get("dandi:dandi-zarr-checksum"),
    }
    return {key: str(value) for key, value in record.items() if value}


def _answer(url: str, address: str) -> Json:
    try:
        request = urllib.request.Request(url, headers={"Accept": "application/json"})
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            about = json.loads(answer.read(_MOST_BYTES))
    except urllib.error.HTTPError as error:
        raise MigvisError(f"{address}: {_why_refused(error.code)} (asked: {url})") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise MigvisError(
            f"{address}: the archive gave no answer ({reason}); expected one from {url}; try again later"
        ) from None
    if not isinstance(about, dict):
        raise MigvisError(f"{address}: {url} did not answer as the DANDI archive does; expected its API")
    return about


def _why_refused(status: int) -> str:
    if status == 404:
        return "the archive does not have it (404); expected a dandiset, version and path that exist"
    if status in (401, 403):
        return f"the archive keeps it under embargo ({status}); expected a public file; dandi download it"
    return f"the archive answered {status}; expected the file's record; try again later"
