"""Networks as safetensors bytes: weights with their architecture, never pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json

if TYPE_CHECKING:
    import torch

_KEY = "nwb-migvis"


def pack(kind: str, tensors: Mapping[str, torch.Tensor], architecture: Mapping[str, Any]) -> bytes:
    """Return tensors and a JSON description as safetensors bytes, the same for the same content.

    Parameters
    ----------
    kind : str
        What the network is; `unpack` asks for it.
    tensors : mapping of str to torch.Tensor
    architecture : mapping
        JSON-serialisable: all that is needed to build the network again.
    """
    from safetensors.torch import save

    head = json.dumps({"kind": kind, **architecture}, sort_keys=True)
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(on_cpu, metadata={_KEY: head})


def unpack(kind: str, weights: bytes) -> tuple[Json, dict[str, torch.Tensor]]:
    """Return architecture and tensors from the bytes that `pack` made.

    Raises
    ------
    MigvisError
        If the bytes are not safetensors, or are of another kind of network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors, head = load(weights), _head(weights)
    except (SafetensorError, KeyError, ValueError) as error:
        raise MigvisError(
            f"weights of {len(weights)} bytes are not a {kind} of nwb-migvis: {error}"
        ) from None
    if head["kind"] != kind:
        raise MigvisError(f"weights are of a {head['kind']!r}; expected a {kind!r}")
    return head, tensors


def kind_of(weights: bytes) -> str:
    """Return the kind of network that `pack` was given.

    Raises
    ------
    MigvisError
        If the bytes are not what `pack` made.
    """
    try:
        return str(_head(weights)["kind"])
    except (KeyError, TypeError, ValueError) as error:
        raise MigvisError(
            f"weights of {len(weights)} bytes are not of a network of nwb-migvis ({error}); expected what "
            "nwb_migvis.networks.weights.pack made"
        ) from None


def _head(weights: bytes) -> Json:
    n_header = int.from_bytes(weights[:8], "little")
    return json.loads(json.loads(weights[8 : 8 + n_header])["__metadata__"][_KEY])
