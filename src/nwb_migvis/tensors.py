"""The safetensors format: eight bytes, a JSON header, and the bytes of the arrays.

Read here without the library, so that nothing of a file is believed before its header has been checked
against its size.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nwb_migvis.plain import Json

MOST_PX = 4096
"""Side of the images of a prior that a file describes."""

MOST_STEPS = 100_000
"""Noise levels of a prior that a file describes."""

_MOST_SETTING = 2**17
_MOST_LAYERS = 64
_MOST_LISTED = 64
"""Of the settings of a network."""

MOST_HEADER_BYTES = 64 * 2**20
MOST_TENSORS = 100_000
_DTYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
_ITEM_BYTES = {name: dtype.itemsize for name, dtype in _DTYPES.items()} | {"BF16": 2}


@dataclass(frozen=True)
class Tensor:
    """What a header says about one tensor: its type, shape, and where its bytes are."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(data: bytes) -> tuple[dict[str, Tensor], dict[str, str], int]:
    """Return the tensors that a file says it has, its metadata, and where the tensors' bytes begin.

    Raises
    ------
    ValueError
        If the header does not parse, or does not account for every byte of the file.
    """
    return _read_header(io.BytesIO(data), len(data))


def read_header_of(path: Path) -> dict[str, Tensor]:
    """Return the tensors that a file says it has, of which the header alone is read.

    Raises
    ------
    ValueError
        As `read_header`.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        return _read_header(file, path.stat().st_size)[0]


def _read_header(file: BinaryIO, n_bytes: int) -> tuple[dict[str, Tensor], dict[str, str], int]:
    size = int.from_bytes(file.read(8), "little")
    if n_bytes < 8 or size > min(n_bytes - 8, MOST_HEADER_BYTES):
        raise ValueError(f"a header of {size} bytes in a file of {n_bytes}")
    header = parse_json(file.read(size).decode(errors="replace"))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("metadata that are not text")
    if len(header) > MOST_TENSORS:
        raise ValueError(f"{len(header)} tensors; expected at most {MOST_TENSORS}")
    tensors = {name: _tensor(name, about) for name, about in header.items()}
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != end:
            raise ValueError(f"tensor {name!r} begins at byte {tensor.start}; expected {end}")
        end = tensor.stop
    if end != n_bytes - 8 - size:
        raise ValueError(f"tensors of {end} bytes; expected {n_bytes - 8 - size}")
    return tensors, metadata, 8 + size


def read_tensors(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and the metadata of a file.

    Raises
    ------
    ValueError
        As `read_header`; for a type that NumPy does not have.
    """
    tensors, metadata, begin = read_header(data)
    arrays = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise ValueError(f"tensor {name!r} of type {tensor.dtype}")
        part = data[begin + tensor.start : begin + tensor.stop]
        arrays[name] = np.frombuffer(part, _DTYPES[tensor.dtype]).reshape(tensor.shape)
    return arrays, metadata


def write_tensors(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return arrays and metadata as the bytes of a file."""
    names = {dtype: name for name, dtype in _DTYPES.items()}
    header: Json = {"__metadata__": dict(metadata)}
    parts, end = [], 0
    for name, values in arrays.items():
        part = np.ascontiguousarray(values).tobytes()
        header[name] = {
            "dtype": names[values.dtype.newbyteorder("<")],
            "shape": list(values.shape),
            "data_offsets": [end, end + len(part)],
        }
        parts.append(part)
        end += len(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def parse_json(text: str) -> Json:
    """Parse a JSON object of finite numbers.

    Raises
    ------
    ValueError
        If the text is anything else, nested too deeply, or has an integer beyond 64 bits.
    """

    def integer(digits: str) -> int:
        value = int(digits) if len(digits) <= 20 else 2**64
        if not -(2**63) <= value < 2**64:
            raise ValueError(f"the integer {digits:.24}...; expected one of 64 bits")
        return value

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise ValueError(f"the number {digits:.24}; expected a finite one")
        return value

    def constant(name: str) -> float:
        raise ValueError(f"the number {name}; expected a finite one")

    try:
        value = json.loads(text, parse_int=integer, parse_float=number, parse_constant=constant)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"JSON of a {type(value).__name__}; expected an object")
    return value


def check_sizes(settings: Mapping[str, Any], *, within: str = "") -> None:
    """Refuse settings of a network with numbers, or numbers of layers, that no network of images has.

    Parameters
    ----------
    settings : mapping
        Values that JSON can hold.
    within : str
        Place of the settings, for messages.

    Raises
    ------
    ValueError
    """
    for name, value in settings.items():
        place = f"{within}{name}"
        is_layers = "layers" in name or (name.startswith("num_") and "blocks" in name)
        most = _MOST_LAYERS if is_layers else _MOST_SETTING
        for one in _flat(value, place):
            if isinstance(one, (int, float)) and abs(one) > most:
                raise ValueError(f"{place} is {one!r:.40}; expected at most {most}")


def _flat(value: Any, place: str) -> list[Any]:
    """Return the plain values within a setting."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        return [value]
    if len(value) > _MOST_LISTED:
        raise ValueError(f"{place} has {len(value)} values; expected at most {_MOST_LISTED}")
    return [one for part in value for one in _flat(part, place)]


def _tensor(name: str, about: Any) -> Tensor:
    try:
        dtype, shape, (start, stop) = about["dtype"], about["shape"], about["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, start, stop)) and len(shape) <= 8
        size = math.prod(shape) * _ITEM_BYTES[dtype]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"tensor {name!r} is described by {about!r:.80}") from None
    if not whole or stop - start != size:
        raise ValueError(f"tensor {name!r} of {size} bytes has {stop - start} in the file")
    return Tensor(dtype, tuple(shape), start, stop)
