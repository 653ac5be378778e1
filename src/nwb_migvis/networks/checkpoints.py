"""The state of a training on disk, from which one that was killed goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nwb_migvis.errors import MigvisError


def save_state(path: Path, content: dict[str, Any], *, digest: str) -> None:
    """Write the state of a training, whole or not at all.

    Parameters
    ----------
    path : Path
    content : dict
        Tensors, numbers and state dictionaries of torch.
    digest : str
        Of all that decides how the training ends.

    Raises
    ------
    MigvisError
        If it cannot be written.
    """
    import torch

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        torch.save({**content, "digest": digest}, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        raise MigvisError(f"checkpoint {path} could not be written: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def load_state(path: Path, *, digest: str) -> dict[str, Any]:
    """Read the state of the training with this digest.

    Raises
    ------
    MigvisError
        If the file cannot be read, or is of another training.
    """
    import torch

    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = content["digest"]
    except Exception as error:
        what = " ".join(str(error).split())[:120]
        raise MigvisError(f"checkpoint {path} cannot be read ({what}); remove it to start afresh") from None
    if found != digest:
        raise MigvisError(
            f"checkpoint {path} is of other data or settings; remove it, or train with those it is of"
        )
    return content
