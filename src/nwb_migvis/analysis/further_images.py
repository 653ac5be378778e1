"""Further images that the prior alone trains on: a folder of them, without what is held out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json
from nwb_migvis.read.pictures import picture_files, read_pictures

if TYPE_CHECKING:
    from nwb_migvis.analysis.networks import Pictures

WHAT = "further images (prior.images)"
SAME = 0.1
"""An image is another's copy where their root mean square difference, relative to the standard deviation of
the other's pixels, is at most this: files of another format differ by less."""
_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class FurtherImages:
    """Images of a folder, and what the record of a run says of them.

    Attributes
    ----------
    image : numpy.ndarray of uint8, shape (n, y, x (, channel))
        At the prior's size.
    record : dict
        `folder` (its name), `n_images` (used), `n_held_out` (left out: copies of held-out stimuli), and
        `sha256` of the images used.
    """

    image: np.ndarray
    record: Json

    @property
    def notes(self) -> list[str]:
        """What has to be said about them."""
        n = self.record["n_held_out"]
        if not n:
            return []
        return [
            f"{n} of {n + len(self.image)} images in {self.record['folder']!r} (prior.images) are held-out "
            "stimuli of the session: the prior was not trained on them"
        ]


def check_further(folder: str) -> None:
    """Refuse a folder without images, before any work is done."""
    picture_files(folder, what=WHAT)


def further_images(folder: str, pictures: Pictures) -> FurtherImages:
    """Read the images of a folder at the size of a session's, and leave out copies of held-out ones.

    Raises
    ------
    MigvisError
        If the folder holds no images, one cannot be read, or all are held-out stimuli.
    """
    files = picture_files(folder, what=WHAT)
    image = read_pictures(files, pictures.image.shape[1:], what="further images")
    is_copy = copies(image, pictures.image[~pictures.train])
    used = image[~is_copy]
    if not len(used):
        raise MigvisError(
            f"{WHAT} {folder}: all {len(image)} are held-out stimuli of the session; expected others"
        )
    record = {
        "folder": Path(folder).resolve().name,
        "n_images": len(used),
        "n_held_out": int(is_copy.sum()),
        "sha256": hashlib.sha256(np.ascontiguousarray(used).tobytes()).hexdigest(),
    }
    return FurtherImages(used, record)


def copies(image: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Tell which images are copies of any of some others: the same pixels, or nearly so (see `SAME`).

    Parameters
    ----------
    image, of : numpy.ndarray of uint8, shape (n, y, x (, channel)) and (m, y, x (, channel))

    Returns
    -------
    numpy.ndarray of bool, shape (n,)
    """
    out = np.zeros(len(image), bool)
    if not len(of):
        return out
    others = of.reshape(len(of), -1).astype(np.float32)
    middle = others.mean()
    others -= middle
    most = (SAME * others.std(axis=1)) ** 2 * others.shape[1]
    exact = {one.tobytes() for one in of}
    for first in range(0, len(image), _AT_ONCE):
        rows = image[first : first + _AT_ONCE]
        own = rows.reshape(len(rows), -1).astype(np.float32) - middle
        squares = (own**2).sum(1)[:, None] + (others**2).sum(1) - 2 * own @ others.T
        near = (squares <= most).any(axis=1)
        out[first : first + _AT_ONCE] = near | np.array([one.tobytes() in exact for one in rows])
    return out
