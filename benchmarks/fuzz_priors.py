"""Open folders of priors, and caches, that were made to harm: each must end in a prior or in one line.

    python benchmarks/fuzz_priors.py --n 500 --seed 0

JSON, safetensors, links, pipes, names and sizes in the folder of a small prior are changed, one to three at a
time: of a prior of ours, of another's model in diffusers' format, of an entry of a cache, and of the state of
a training in one. How a folder ends badly, see `fuzz_results.py`. Exit code 1 if any does, or if one that is
not changed is not opened.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from changed_files import change_tensor
from fuzz_reading import endings
from hostile import LIMIT_S, Watch, ending_of, judge, say

KINDS = ("ours", "theirs", "cache", "state")
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 3, 10**6, 10**9, 10**18, 1e300, 0.5),
    *("", "x", "../x", "\x1b[2J", "hf_hub:a/b", "x" * 5000, "AttnDownBlock2D", "identity", "float8"),
    *([], [1], [10**6], [0, 0], {}, {"a": 1}, [[]], [8, 8, 8]),
)
TEXTS = (b"", b"{", b"[1]", b'{"a": NaN}', b'{"a": ' + b"9" * 6000 + b"}", b"\xff\xfe", b"[" * 50_000)


def training(folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the images and settings of the training whose cache is in a folder."""
    from nwb_migvis.config import PriorConfig

    images = np.random.default_rng(0).integers(0, 255, (24, 8, 8), dtype=np.uint8)
    config = PriorConfig(size_px=8, channels=(8, 16), n_steps=4, batch_size=8, conditional=False)
    return images, {"config": config, "seed": 0}


def make_bases(folder: Path) -> None:
    """Write one unchanged folder of each kind."""
    import torch
    from diffusers import DDPMScheduler, UNet2DModel

    from nwb_migvis.synthesis.prior import training as prior_training
    from nwb_migvis.synthesis.prior.cache import cached_prior
    from nwb_migvis.synthesis.prior.folder import save_prior
    from nwb_migvis.synthesis.prior.model import PixelScale, Prior, cosine_alpha_bar, new_denoiser

    images, settings = training(folder)
    torch.manual_seed(0)
    (folder / "cache").mkdir(parents=True)
    cached_prior(folder / "cache", images, **settings)
    plain = new_denoiser(1, settings["config"], sizes=(2, 1))
    save_prior(Prior(plain, PixelScale(100.0, 50.0), (8, 8), cosine_alpha_bar(1000)), folder / "ours")
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("UpBlock2D",) * 2}
    sizes = {"block_out_channels": (8, 16), "norm_num_groups": 8, "attention_head_dim": 8, "sample_size": 8}
    unet = UNet2DModel(layers_per_block=1, in_channels=1, out_channels=1, **blocks, **sizes)
    for name, part in (("unet", unet), ("scheduler", DDPMScheduler(50))):
        part.save_pretrained(folder / "theirs" / name)
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
    (folder / "theirs" / "model_index.json").write_text(json.dumps(index))
    (folder / "state").mkdir()
    prior_training.CHECKPOINT_EVERY = 2
    (entry,) = (folder / "cache").iterdir()
    prior_training.train_prior(
        images, **settings, checkpoint=folder / "state" / f"{entry.name}.checkpoint.pt"
    )


def odd_place(value: Any, rng: np.random.Generator) -> Any:
    """Return JSON in which one value, at a random depth, is another, absent or added."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[rng.integers(len(keys))]
        kind = rng.random()
        if kind < 0.1:
            value.pop(key)
        elif kind < 0.2 and isinstance(value, dict):
            value["quantization_config"] = ODD[rng.integers(len(ODD))]
        else:
            value[key] = odd_place(value[key], rng)
        return value
    return ODD[rng.integers(len(ODD))]


def change_json(path: Path, rng: np.random.Generator) -> None:
    if path.suffix != ".json" or rng.random() < 0.15:
        path.write_bytes(TEXTS[rng.integers(len(TEXTS))])
    else:
        path.write_text(json.dumps(odd_place(json.loads(path.read_text()), rng)))


def change_tensors(path: Path, rng: np.random.Generator) -> None:
    """Change tensors, their header, or bytes."""
    from nwb_migvis.tensors import read_tensors, write_tensors

    data = path.read_bytes()
    if path.suffix == ".safetensors" and rng.random() < 0.7:
        arrays, metadata = read_tensors(data)
        arrays = dict(arrays)
        name = list(arrays)[rng.integers(len(arrays))]
        if not change_tensor(arrays, name, rng.integers(5), rng):
            arrays[f"more.{name}"] = arrays[name]
        data = write_tensors(arrays, metadata)
    elif rng.random() < 0.5:
        data = data[: rng.integers(len(data))]
    else:
        changed = bytearray(data)
        for place in rng.integers(0, min(len(data), 2000), 5):
            changed[place] ^= 1 << int(rng.integers(8))
        data = bytes(changed)
    path.write_bytes(data)


def change_state(path: Path, rng: np.random.Generator) -> None:
    """Change what the state of a training holds, or how it is stored."""
    import torch

    content = torch.load(path, weights_only=True)
    part = content
    while isinstance(part, dict) and part and rng.random() < 0.8:
        key = list(part)[rng.integers(len(part))]
        if not isinstance(part[key], dict) or rng.random() < 0.3:
            value = part[key]
            odd = [None, -(10**12), 10**12, "x", torch.zeros(3), float("nan"), {}, []]
            part[key] = (
                value[:1] if isinstance(value, torch.Tensor) and value.ndim else odd[rng.integers(len(odd))]
            )
            if rng.random() < 0.2:
                del part[key]
            break
        part = part[key]
    kind = rng.random()
    torch.save(content, path, _use_new_zipfile_serialization=bool(kind < 0.8))
    if kind > 0.9:
        import zipfile

        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", b"\0" * 10**7)


def change_place(path: Path, rng: np.random.Generator) -> None:
    """Put a link, a pipe, a folder or something huge in the place of a file, or take it away."""
    canaries = path.parents[[p.name for p in path.parents].index("files")].with_name("canaries")
    kind = rng.integers(8)
    target = path.with_name(f".{path.name}.target")
    path.rename(target)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to(path)
    elif kind == 2:
        path.mkdir()
    elif kind == 3:
        path.symlink_to("/dev/zero")
    elif kind == 4:
        with path.open("wb") as file:
            file.truncate(2**36)
    elif kind == 5:
        path.symlink_to(canaries / "nothing")
    elif kind == 6:
        target.rename(path.with_name("\x1b[2J.json"))
    else:
        path.symlink_to(target.name)


def change(folder: Path, rng: np.random.Generator) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    path = files[rng.integers(len(files))]
    if rng.random() < 0.2:
        change_place(path, rng)
    elif path.suffix == ".pt":
        (change_state if rng.random() < 0.7 else change_tensors)(path, rng)
    elif path.suffix == ".safetensors":
        change_tensors(path, rng)
    else:
        change_json(path, rng)


def make_folders(folder: Path, n: int, seed: int) -> None:
    """Write `n` folders of all kinds; the first of each is not changed."""
    bases = folder / "bases"
    make_bases(bases)
    (folder / "canaries").mkdir()
    (folder / "canaries" / "canary.json").write_text("{}")
    for i in range(n):
        copy = Path(shutil.copytree(bases / KINDS[i % len(KINDS)], folder / "files" / str(i)))
        rng = np.random.default_rng([seed, i])
        for _ in range(rng.integers(1, 4) if i >= len(KINDS) else 0):
            try:
                change(copy, rng)
            except Exception:
                continue  # an earlier change took away what this one is of


def read_all(folder: Path, first: int, n: int) -> None:
    from nwb_migvis.synthesis.prior.cache import cached_prior, check_cache
    from nwb_migvis.synthesis.prior.folder import open_prior
    from nwb_migvis.synthesis.prior.training import train_prior

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    images, settings = training(folder)
    open_prior("renders")  # what is imported late is imported now
    train_prior(images, **settings)
    watch = Watch(folder / "canaries", allowed=[folder / "files"])
    for i in range(first, n):
        path = folder / "files" / str(i)
        steps: list[tuple[str, Callable[[], Any]]]
        if KINDS[i % len(KINDS)] in ("ours", "theirs"):
            steps = [
                ("open", lambda path=path: repr(open_prior(str(path)))),
                ("train on", lambda path=path: _train_on(open_prior(str(path)), images, settings)),
            ]
        else:
            steps = [
                ("check", lambda path=path: check_cache(path)),
                ("cache", lambda path=path: repr(cached_prior(path, images, **settings))),
            ]
        say(i, ending_of(steps, watch)[0])


def _train_on(prior: Any, images: np.ndarray, settings: dict[str, Any]) -> None:
    """Take one step of training from a prior, as a run would that starts from it."""
    from dataclasses import replace

    from nwb_migvis import MigvisError
    from nwb_migvis.analysis.networks import settings_of
    from nwb_migvis.synthesis.prior.training import train_prior

    if prior.shape[0] > 64:
        raise MigvisError("too large to try")
    given = np.resize(images, (len(images), *prior.shape))
    config = replace(settings_of(prior, settings["config"]), n_steps=1, batch_size=2, start="given")
    train_prior(given, config=config, seed=0, start=prior)


def fuzz(n: int, *, seed: int, limit_s: float, verbose: bool = False) -> bool:
    """Open `n` folders in a child process; print how they ended and tell whether all ended well."""
    with tempfile.TemporaryDirectory() as folder:
        make_folders(Path(folder), n, seed)
        ends = endings(Path(folder), n, limit_s=limit_s, script=__file__)
    is_well = judge(ends, what=f"folder of seed {seed}", verbose=verbose)
    return is_well and all(ending.startswith("read") for ending in ends[: len(KINDS)])


def main() -> int:
    """Run the fuzzer and print how many folders ended how."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds a folder may take")
    parser.add_argument("--verbose", action="store_true", help="print how each folder ended")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        read_all(options.child, options.first, options.n)
        return 0
    return int(not fuzz(options.n, seed=options.seed, limit_s=options.limit, verbose=options.verbose))


if __name__ == "__main__":
    sys.exit(main())
