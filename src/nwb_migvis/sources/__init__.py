"""Where sessions are read from: files on this machine, at addresses, or open ones."""

from __future__ import annotations

from nwb_migvis.sources.connection import Unreachable
from nwb_migvis.sources.folder import (
    ZarrFolder,
    copy_to_hdf5,
    copy_to_zarr,
    folder_behind,
    keep_layout,
    require_zarr,
    schema_errors,
)
from nwb_migvis.sources.remote_folder import RemoteFolder
from nwb_migvis.sources.source import (
    OpenFile,
    RemoteFile,
    Source,
    as_source,
    bytes_of,
    close_streams,
    download,
    folder_of,
    local_file,
    open_hdf5,
    size_of,
    state_of,
    zarr_of,
)
from nwb_migvis.sources.stream import stream_cache

__all__ = [
    "OpenFile",
    "RemoteFile",
    "RemoteFolder",
    "Source",
    "Unreachable",
    "ZarrFolder",
    "as_source",
    "bytes_of",
    "close_streams",
    "copy_to_hdf5",
    "copy_to_zarr",
    "download",
    "folder_behind",
    "folder_of",
    "keep_layout",
    "local_file",
    "open_hdf5",
    "require_zarr",
    "schema_errors",
    "size_of",
    "state_of",
    "stream_cache",
    "zarr_of",
]
