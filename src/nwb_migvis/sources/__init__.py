"""Where sessions are read from: files on this machine, at addresses, or open ones."""

from __future__ import annotations

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
)
from nwb_migvis.sources.stream import Unreachable, stream_cache

__all__ = [
    "OpenFile",
    "RemoteFile",
    "Source",
    "Unreachable",
    "as_source",
    "bytes_of",
    "close_streams",
    "download",
    "folder_of",
    "local_file",
    "open_hdf5",
    "size_of",
    "state_of",
    "stream_cache",
]
