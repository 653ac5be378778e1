"""Networks that set images beside words: opened from local files, nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import require
from nwb_migvis.networks.describing import as_input, network_digest
from nwb_migvis.registry import TEXT_NETWORKS

CLIP = "clip"
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue, as CLIP was trained (Radford et al. 2021): where a folder does not say."""
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_TOKENIZER = (("tokenizer.json",), ("vocab.json", "merges.txt"))
_AT_ONCE = 32


@dataclass(frozen=True)
class ImageTextNetwork:
    """A network that describes images and text by the same features.

    Attributes
    ----------
    describe_images : callable
        uint8 images (n, y, x) or (n, y, x, channel) -> features (n, k).
    describe_words : callable
        Sequence of n words or phrases -> features (n, k).
    sha256 : str
        Of its weights, for the record; may be "".
    """

    describe_images: Callable[[np.ndarray], np.ndarray]
    describe_words: Callable[[Sequence[str]], np.ndarray]
    sha256: str = ""


class OpenTextNetwork(Protocol):
    """Opens networks of one kind: an entry of the registry of image-text networks."""

    def __call__(self, *, path: str, device: str) -> ImageTextNetwork:
        """Return a network with its weights.

        Parameters
        ----------
        path : str
            What stands behind the colon in `companions.text_network`; "" without one.
        device : str
        """
        ...


def open_text_network(name: str, *, device: str = "cpu") -> ImageTextNetwork:
    """Open a network by its name in the settings: "clip:FOLDER", "NAME" or "NAME:PATH".

    Raises
    ------
    MigvisError
        If the name is unknown, a package or a file is absent, or what is opened is no such network.
    """
    kind, _, path = name.partition(":")
    network = TEXT_NETWORKS[kind](path=path, device=device)
    needs = ("describe_images", "describe_words")
    lacking = [need for need in needs if not callable(getattr(network, need, None))]
    if lacking:
        raise MigvisError(
            f"image-text network {kind!r}: it opens a {type(network).__name__} without {', '.join(lacking)}; "
            "expected an ImageTextNetwork"
        )
    return network


def check_text_network(name: str) -> None:
    """Refuse a "clip:FOLDER" that cannot be opened, before any work is done.

    Raises
    ------
    MigvisError
        If transformers is not installed, or a file is absent.
    """
    kind, _, path = name.partition(":")
    if kind == CLIP:
        _checked_folder(path)


def cosines(network: ImageTextNetwork, images: np.ndarray, words: Sequence[str]) -> np.ndarray:
    """Return the cosine of every image's features with every word's, (image, word).

    Parameters
    ----------
    network : ImageTextNetwork
    images : array of uint8 (n, y, x) or (n, y, x, channel)
    words : sequence of str

    Raises
    ------
    MigvisError
        If images and words are not described by as many finite numbers.
    """
    parts = [network.describe_images(images[i : i + _AT_ONCE]) for i in range(0, len(images), _AT_ONCE)]
    seen = np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])
    said = np.asarray(network.describe_words(list(words)), dtype=np.float64)
    width = seen.shape[-1]
    if (seen.shape, said.shape) != ((len(images), width), (len(words), width)):
        raise MigvisError(
            f"image-text network: found features of shape {seen.shape} for {len(images)} images and "
            f"{said.shape} for {len(words)} words; expected one row each, of the same width"
        )
    if not (np.isfinite(seen).all() and np.isfinite(said).all()):
        raise MigvisError("image-text network: found features that are not finite numbers; check its weights")
    return _unit(seen) @ _unit(said).T


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def open_clip(*, path: str, device: str = "cpu") -> ImageTextNetwork:
    """Open a CLIPModel (Radford et al. 2021) of transformers with its tokenizer, from a local folder.

    Weights are read from safetensors alone. Whole images are resized to the network's size (bilinear); their
    pixels are standardised as the folder's `preprocessor_config.json` says, else as CLIP's.

    Raises
    ------
    MigvisError
        If transformers is not installed, a file is absent, or they do not make a CLIPModel.
    """
    folder = _checked_folder(path)
    from transformers import CLIPModel, CLIPTokenizer

    try:
        with torch.random.fork_rng(devices=[]), _quiet():
            made, about = CLIPModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        mean, std = _pixel_scale(folder)
    except Exception as error:
        raise MigvisError(
            f"image-text network {folder} cannot be read ({_line(error)}); expected a CLIPModel with its "
            "tokenizer, as save_pretrained of transformers writes them"
        ) from None
    if absent := sorted(about["missing_keys"]):
        raise MigvisError(
            f"image-text network {folder}: its weights lack {len(absent)} tensors of a CLIPModel, such as "
            f"{absent[0]}; expected all of them"
        )
    model = made.float().to(device).eval().requires_grad_(False)
    size_px = model.config.vision_config.image_size
    n_tokens = model.config.text_config.max_position_embeddings

    @torch.no_grad()
    def describe_images(images: np.ndarray) -> np.ndarray:
        x = as_input(images, size_px, mean=mean, std=std).contiguous().to(device)
        return _projected(model.vision_model(pixel_values=x), model.visual_projection)

    @torch.no_grad()
    def describe_words(words: Sequence[str]) -> np.ndarray:
        parts = []
        for first in range(0, len(words), _AT_ONCE):
            tokens = tokenizer(
                list(words[first : first + _AT_ONCE]),
                padding=True,
                truncation=True,
                max_length=n_tokens,
                return_tensors="pt",
            ).to(device)
            said = model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
            parts.append(_projected(said, model.text_projection))
        return np.concatenate(parts)

    return ImageTextNetwork(describe_images, describe_words, network_digest(model))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep bars and warnings of transformers from stderr: what is wrong is said in an error."""
    from transformers.utils import logging

    level, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bars:
            logging.enable_progress_bar()


def _projected(out: Any, projection: torch.nn.Module) -> np.ndarray:
    return projection(out.pooler_output).cpu().numpy()


def _checked_folder(path: str) -> Path:
    """Return the folder of a CLIPModel, once transformers is there and the folder has its files."""
    require(("transformers",), what="a vocabulary (companions.text_network)", extra="words")
    folder = Path(path)
    if not path or not folder.is_dir():
        raise MigvisError(
            f"companions.text_network: found no folder {path!r}; expected clip:FOLDER, a local folder that "
            "save_pretrained of transformers wrote; nothing is downloaded"
        )
    present = {file.name for file in folder.iterdir()}
    for what, choices in (
        ("config.json", (("config.json",),)),
        ("model.safetensors", tuple((name,) for name in _WEIGHTS)),
        ("vocab.json and merges.txt, or tokenizer.json", _TOKENIZER),
    ):
        if not any(set(names) <= present for names in choices):
            raise MigvisError(
                f"image-text network {folder}: found no {what}; expected a CLIPModel with its tokenizer; "
                "save both there with save_pretrained of transformers (weights as safetensors)"
            )
    return folder


def _pixel_scale(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation that pixels from 0 to 1 are standardised by."""
    file = folder / "preprocessor_config.json"
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    mean, std = said.get("image_mean", CLIP_MEAN), said.get("image_std", CLIP_STD)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError("preprocessor_config.json gives no mean and standard deviation of three colours")
    return tuple(map(float, mean)), tuple(map(float, std))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
