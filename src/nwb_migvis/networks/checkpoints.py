"""The state of training on disk, from which training that was killed resumes."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.files import check_regular
from nwb_migvis.networks.ranks import ranks

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Checkpoint:
    """Where a training keeps its state, and which training that is.

    Parameters
    ----------
    path : Path
    digest : str
        Of all that decides how the training ends.
    every : int
        Steps between two states.
    stays : bool
        Whether the file is kept when the training has ended.
    """

    path: Path
    digest: str
    every: int
    stays: bool = False

    def save(self, content: Mapping[str, Any]) -> None:
        """Write a state, whole or not at all; of several processes only the first does.

        Parameters
        ----------
        content : mapping
            Tensors, numbers and state dictionaries of torch.

        Raises
        ------
        MigvisError
            If it cannot be written.
        """
        import torch

        if not ranks().is_first:
            return
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            torch.save({**content, "digest": self.digest}, temporary)
            temporary.replace(self.path)
        except (OSError, RuntimeError) as error:
            raise MigvisError(f"checkpoint {self.path} could not be written: {error}") from None
        finally:
            temporary.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """Return the state that was written last; None where there is none.

        Raises
        ------
        MigvisError
            If the file cannot be read, or belongs to other data or settings.
        """
        import torch

        if not self.path.exists():
            return None
        check_regular(self.path, what="checkpoint")
        try:
            with zipfile.ZipFile(
                self.path
            ) as archive:  # torch stores; what is compressed is not of its making
                if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                    raise ValueError("its parts are compressed")
            content: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            digest = content.pop("digest")
        except Exception as error:
            what = " ".join(str(error).split())[:120]
            raise MigvisError(
                f"checkpoint {self.path} cannot be read ({what}); remove it to start afresh"
            ) from None
        if digest != self.digest:
            raise MigvisError(
                f"checkpoint {self.path} belongs to other data or settings; remove it, or train "
                "with the data and settings that it was written with"
            )
        return content

    @contextmanager
    def resuming(self) -> Iterator[None]:
        """Say of which file it is when a training cannot take back a state.

        Raises
        ------
        MigvisError
        """
        try:
            yield
        except Exception as error:  # torch raises nearly anything for a state that does not fit
            what = " ".join(str(error).split())[:120] or type(error).__name__
            raise MigvisError(
                f"checkpoint {self.path} does not fit this training ({what}); remove it to start afresh"
            ) from None

    def finish(self) -> None:
        """Remove the file, unless it stays."""
        if not self.stays and ranks().is_first:
            self.path.unlink(missing_ok=True)


def checkpoint_in(folder: Path | None, what: str, *decisive: Any, every: int) -> Checkpoint | None:
    """Return the checkpoint of a training in a folder; None without a folder, and in a helping process.

    Parameters
    ----------
    folder : Path or None
    what : str
        What is trained.
    *decisive
        All that decides how the training ends (see `digest_of`).
    every : int
        Steps between two states.
    """
    if folder is None or not ranks().is_first:
        return None
    digest = digest_of(*decisive)
    return Checkpoint(folder / f"{what}-{digest}.checkpoint.pt", digest, every)


def digest_of(*decisive: Any) -> str:
    """Return the digest of all that decides how a training ends.

    Threads and the version of torch are part of it: the last bits of the weights depend on them.

    Parameters
    ----------
    *decisive
        Bytes, arrays, tensors, records, and plain values, or mappings and sequences of them.
    """
    import torch

    digest = hashlib.sha256()
    _add(digest, (*decisive, torch.get_num_threads(), torch.__version__))
    return digest.hexdigest()


def _add(digest: hashlib._Hash, part: Any) -> None:
    """Add a value to a digest, with its kind and length, so that no two values add the same bytes."""
    if isinstance(part, Mapping):
        part = list(part.items())
    elif is_dataclass(part) and not isinstance(part, type):
        part = [(field.name, getattr(part, field.name)) for field in fields(part)]
    if isinstance(part, (list, tuple)):
        digest.update(f"sequence {len(part)} ".encode())
        for value in part:
            _add(digest, value)
        return
    if hasattr(part, "detach"):
        part = _array(part)
    if isinstance(part, np.ndarray) and part.dtype.kind not in "OUT":
        content = f"{part.dtype} {part.shape} ".encode() + np.ascontiguousarray(part).tobytes()
    elif isinstance(part, bytes):
        content = part
    else:
        content = repr(part.tolist() if isinstance(part, np.ndarray) else part).encode()
    digest.update(f"{type(part).__name__} {len(content)} ".encode() + content)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
