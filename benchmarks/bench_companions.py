"""Further analyses on planted truth: are they right, are their p-values uniform, and what do they cost?

    python benchmarks/bench_companions.py names words dimension states concepts scaling
    python benchmarks/bench_companions.py null --n-fits 100
    python benchmarks/bench_companions.py cost
    python benchmarks/bench_companions.py session --seeds 0 1 2

`null` is in `companions_null.py`, `cost` in `companions_cost.py`. `session` fits the latents of whole
simulated sessions (5,760 images, 20 repeats), and takes long.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from companions_cost import cost
from companions_null import null
from sklearn.metrics import adjusted_mutual_info_score

from nwb_migvis import Config, Study, read_session, registry, simulate_session
from nwb_migvis.companions.cells import edge_map, peak_is_inside
from nwb_migvis.companions.dimension import signal_participation_ratio
from nwb_migvis.companions.places import SIDE_PX
from nwb_migvis.companions.states import standing_apart
from nwb_migvis.config import GroupConfig
from nwb_migvis.networks.text_networks import ImageTextNetwork
from nwb_migvis.read.recorded import small_images
from nwb_migvis.simulate import read_ground_truth
from nwb_migvis.testing import mock_session, tiny_config

EDGES = {"companions": {"network": "edges"}, "split": {"by": "stimulus"}}
NUMBERS = ("size", "position_x", "position_y", "rotation_x", "rotation_z")
PLANTED = (*NUMBERS, "hue", "category", "material")
BLIND = ("blind_1", "blind_2")


def named_session(seed: int, *, n: int = 600, noise: float = 1.0) -> tuple[xr.Dataset, np.ndarray]:
    """Ten groups of three latents; size and position_x correlate with .6, hue wraps."""
    rng = np.random.default_rng([seed, 99])
    session = mock_session(seed=seed, n_stimuli=n, n_repeats=1, size_px=None)
    position = session["position_x"].values
    size = 0.6 * (position - position.mean()) / position.std() + 0.8 * rng.normal(size=n)
    hue, material = rng.uniform(0, 360, n), rng.choice(["wood", "metal", "cloth"], n)
    more = {"size": size, "hue": hue, "material": material}
    session = session.assign_coords({name: ("stimulus", own) for name, own in more.items()})
    latents = []
    for name in PLANTED:
        values = session[name].values
        if name == "hue":
            signal = 1.4 * np.stack([np.cos(np.deg2rad(values)), np.sin(np.deg2rad(values))], 1)
        elif values.dtype.kind == "U":
            place = np.unique(values, return_inverse=True)[1]
            signal = rng.normal(size=(place.max() + 1, 3))[place]
        else:
            x = (values - values.mean()) / values.std()
            signal = 1.5 * np.stack([np.tanh(1.5 * x), 0.5 * np.exp(-0.5 * (x - 0.5) ** 2)], 1)
        signal = np.pad(signal, ((0, 0), (0, 3 - signal.shape[1])))
        latents.append(signal @ np.linalg.qr(rng.normal(size=(3, 3)))[0])
    for _ in BLIND:
        unlabelled = rng.normal(size=n)
        latents.append(np.stack([unlabelled**2, unlabelled, rng.normal(size=n)], 1))
    z = np.concatenate(latents, axis=1)
    return session, z + noise * rng.normal(size=z.shape)


def names(seeds: list[int]) -> None:
    """Planted groups are called after their label, blind ones have no name."""
    groups = tuple(GroupConfig(name=name, size=3) for name in (*PLANTED, *BLIND))
    for noise in (0.5, 1.0, 2.0):
        right, silent = [], []
        ends: dict[str, list[bool]] = {"named": [], "named rightly": []}
        for seed in seeds:
            session, z = named_session(seed, noise=noise)
            evidence = {"n_permutations": 499, "n_bootstrap": 199}
            settings: dict[str, Any] = {"evidence": evidence, "latents": {"circular": {"hue": 360}}}
            study = Study(session, tiny_config(seed=seed, **settings, **EDGES))
            study.use_latents(z, groups=groups)
            found = study.compute("names")
            called = dict(zip(found["group"].values, found["name"].values, strict=True))
            right += [called[name] == name for name in PLANTED]
            silent += [called[name] == "" for name in BLIND]
            for name in (*PLANTED, *BLIND):
                said = [str(text) for text in found["end_name"].sel(group=name).values.ravel() if text]
                ends["named"] += [bool(said)]
                ends["named rightly"] += [text.startswith(f"{name} ") and "," not in text for text in said]
        rightly = np.mean(ends["named rightly"]) if ends["named rightly"] else np.nan
        print(
            f"names, noise {noise}: right {np.mean(right):.2f} of {len(right)}; blind without a name "
            f"{np.mean(silent):.2f} of {len(silent)}; ends named rightly {rightly:.2f} of "
            f"{len(ends['named rightly'])}",
            flush=True,
        )


POLES = (
    ("bright", "dark"),
    ("coarse", "smooth"),
    ("upright", "level"),
    ("lit from the left", "lit from the right"),
)
N_OTHERS = 192


def seen_images(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of 16 px that vary in brightness, contrast, direction of stripes and light, and these four."""
    factors = rng.uniform(-1, 1, (n, len(POLES)))
    y, x = np.mgrid[:16, :16] / 15 - 0.5
    mean, contrast, upright, left = (own[:, None, None] for own in factors.T)
    phase = rng.uniform(0, 2 * np.pi, (2, n, 1, 1))
    stripes = (1 + upright) * np.cos(20 * x + phase[0]) + (1 - upright) * np.cos(20 * y + phase[1])
    image = 128 + 25 * mean + (12 + 8 * contrast) * stripes - 40 * left * x + 4 * rng.normal(size=(n, 16, 16))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), factors


class Describer:
    """A fake network of images and text: the four factors as pixels have them, and directions of noise."""

    def __init__(self, words: list[str]):
        self.words = words

    def describe_images(self, images: np.ndarray) -> np.ndarray:
        x = images.astype(float)
        across, down = ((np.diff(x, axis=axis) ** 2).mean(axis=(1, 2)) for axis in (2, 1))
        light = x[:, :, :8].mean(axis=(1, 2)) - x[:, :, 8:].mean(axis=(1, 2))
        own = np.stack([x.mean(axis=(1, 2)) - 128, x.std(axis=(1, 2)) - 17, (across - down) / 40, light], 1)
        noise = [np.random.default_rng(list(image.tobytes()[:64])).normal(size=16) for image in images]
        scaled = own / (14.0, 4.0, 4.0, 11.0)
        return np.concatenate([scaled, np.array(noise), np.full((len(images), 1), 4.0)], axis=1)

    def describe_words(self, words: list[str]) -> np.ndarray:
        out = np.zeros((len(words), len(POLES) + 17))
        for row, word in zip(out, words, strict=True):
            for i, poles in enumerate(POLES):
                if word in poles:
                    row[i] = 1.0 if word == poles[0] else -1.0
            if not row.any():
                row[len(POLES) : -1] = np.random.default_rng(self.words.index(word)).normal(size=16)
        return out


def words(seeds: list[int]) -> None:
    """Planted groups and ends have one of their two words of a vocabulary of 200, blind ones have none."""
    vocabulary = [*(word for poles in POLES for word in poles), *(f"word {i}" for i in range(N_OTHERS))]
    fake = Describer(vocabulary)
    opened = ImageTextNetwork(fake.describe_images, fake.describe_words)
    registry.TEXT_NETWORKS.register("fake", lambda *, path, device: opened)
    groups = tuple(GroupConfig(name=name, size=3) for name in (*(poles[0] for poles in POLES), *BLIND))
    for noise in (0.5, 1.0, 2.0):
        right, silent, ends = [], [], []
        for seed in seeds:
            rng = np.random.default_rng([seed, 98])
            images, factors = seen_images(rng, 600)
            session = mock_session(seed=seed, n_stimuli=600, n_repeats=1, size_px=16)
            session = session.assign(image=(("stimulus", "y", "x"), images))
            z = np.zeros((600, len(groups), 3))
            z[:, : len(POLES), 0] = 1.7 * factors
            z = z.reshape(600, -1) + noise * rng.normal(size=(600, 3 * len(groups)))
            chosen = {"network": "edges", "vocabulary": vocabulary, "text_network": "fake"}
            few = {"n_permutations": 499, "n_bootstrap": 199}
            study = Study(
                session, tiny_config(seed=seed, evidence=few, companions=chosen, split={"by": "stimulus"})
            )
            study.use_latents(z, groups=groups)
            found = study.compute("names")
            called = found["group_word"].values.tolist()
            right += [word in poles for word, poles in zip(called, POLES, strict=False)]
            silent += [word == "" for word in called[len(POLES) :]]
            for group, poles in zip(found["group"].values, (*POLES, *[()] * len(BLIND)), strict=True):
                ends += [str(w) in poles for w in found["end_word"].sel(group=group).values.ravel() if w]
        print(
            f"words, noise {noise}: right {np.mean(right):.2f} of {len(right)}; blind without a word "
            f"{np.mean(silent):.2f} of {len(silent)}; ends named rightly "
            f"{np.mean(ends) if ends else np.nan:.2f} of {len(ends)}",
            flush=True,
        )


def dimension(seeds: list[int]) -> None:
    """The dimension of planted linear manifolds, from two halves of four noisy repeats."""
    for d in (2, 5, 10):
        found = []
        for seed in seeds:
            rng = np.random.default_rng([seed, d])
            axes = np.linalg.qr(rng.normal(size=(160, d)))[0].T * np.sqrt(160)
            signal = rng.normal(size=(1152, d)) @ axes
            halves = [signal + 2 * rng.normal(size=signal.shape) / np.sqrt(2) for _ in range(2)]
            found.append(signal_participation_ratio(*halves))
        print(f"dimension {d}: {', '.join(f'{ratio:.2f}' for ratio in found)}", flush=True)


def states(seeds: list[int]) -> None:
    """Planted states are found, and none in continuous populations."""
    for seed in seeds:
        rng = np.random.default_rng([seed, 7])
        centre, of = np.concatenate([np.zeros((1, 6)), 3 * np.eye(6)[:4]]), rng.integers(0, 5, 3000)
        x = centre[of] + 0.4 * rng.normal(size=(3000, 6))
        # tanh(x) of a Gaussian x has one mode where the variance of x is below 1/2, and two beyond.
        turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        smooth = np.tanh(0.6 * rng.normal(size=(3000, 6))) @ turn
        smooth += 0.4 * rng.normal(size=smooth.shape)
        level = np.arange(1000)
        found, none = (standing_apart(y[:2000], y[2000:], levels=level, rng=rng) for y in (x, smooth))
        score = adjusted_mutual_info_score(of[2000:], found.state)
        print(f"states, seed {seed}: {found.n_states} of 5, AMI {score:.3f}; in a continuum {none.n_states}")


def concepts(seeds: list[int]) -> None:
    """Groups of two animals match where they were planted in both."""
    groups = tuple(GroupConfig(name=name, size=3) for name in "abcd")
    for seed in seeds:
        rng = np.random.default_rng([seed, 8])
        first = mock_session(seed=seed, n_stimuli=600, n_repeats=1, size_px=None)
        pair = [first.assign_attrs(source=f"{name}.nwb") for name in "xy"]
        common = rng.normal(size=(600, 12))
        turn = np.kron(np.eye(4), np.linalg.qr(rng.normal(size=(3, 3)))[0])
        other = common @ turn
        other[:, 6:] = rng.normal(size=(600, 6))
        z = [y + 0.7 * rng.normal(size=y.shape) for y in (common, other)]
        study = Study(pair, tiny_config(seed=seed, evidence={"n_permutations": 499}, **EDGES))
        study.use_latents(z, groups=groups)
        concept = study.compute("concepts")["concept"].values
        matched = (concept[:4] == concept[4:]) & (concept[:4] >= 0)
        print(f"concepts, seed {seed}: a, b planted in both, c, d not: {matched.tolist()}", flush=True)


def scaling(seeds: list[int]) -> None:
    """Retrieval from ever more repeats and units does not fall: the largest drop, beside half an interval."""
    for seed in seeds:
        session = mock_session(seed=seed, n_stimuli=500, n_repeats=16)
        config = tiny_config(seed=seed, latents={"n_steps": 300}, evidence={"n_bootstrap": 199}, **EDGES)
        study = Study(session, config)
        study.fit_latents()
        print_curves(study.compute("retrieval"), f"scaling, seed {seed}")


def print_curves(found: xr.Dataset, title: str) -> None:
    """Print the scaling of the percentile, and by how much it falls where it falls most."""
    for name in ("by_repeats_of_latents", "by_repeats_of_counts", "by_units"):
        if (full := f"percentile_{name}") not in found:
            continue
        values = found[full].values
        half = (found[f"{full}_high"].values - found[f"{full}_low"].values).max() / 2
        drop = max(0.0, float(-np.diff(values).min())) if len(values) > 1 else 0.0
        steps = found[found[full].dims[0]].values.tolist()
        shown = ", ".join(f"{step:g}: {value:.3f}" for step, value in zip(steps, values, strict=True))
        print(f"{title}, {name}: {shown}; largest drop {drop:.3f}, half an interval {half:.3f}", flush=True)


MAPS = ("map", "feature_map")


def whole_session(seeds: list[int]) -> None:
    """Retrieval, names and places of whole simulated sessions."""
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            path = simulate_session(Path(folder) / "session.nwb", seed=seed)
            study = Study(read_session(path), Config(seed=seed))
            study.fit_latents()
            mask = read_ground_truth(path)["object_mask"]
            found = {}
            for name in ("retrieval", "names", "places"):
                start = time.process_time()
                found[name] = study.compute(name)
                print(f"{name}, seed {seed}: {time.process_time() - start:.0f} s of CPU", flush=True)
            top1 = found["retrieval"]["top1"].sel(space="all latents").max()
            print(f"retrieval, seed {seed}: top1 {float(top1):.3f}, chance {1 / 1152:.5f}")
            for by in ("top1_by_repeats_of_latents", "top1_by_units"):
                print(f"  {by}: {found['retrieval'][by].values.round(3).tolist()}")
            print(f"names, seed {seed}: {found['names']['name'].to_series().to_dict()}")
            shown = found["places"]["image"].values
            masks = mask.sel(stimulus=shown).values
            for group in found["places"]["group"].values:
                own = found["places"].sel(group=group)
                inside = {name: peak_is_inside(own[name].values, masks).mean() for name in MAPS}
                said = ", ".join(f"{name} {share:.2f}" for name, share in inside.items())
                print(f"places, seed {seed}, {group}: peak on the object in {said}")
            for way in ("seen", "deletion", "insertion"):
                print(found["places"][way].round(3).to_pandas().to_string())
            rows = study.sessions[0].indexes["stimulus"].get_indexer(shown)
            images = small_images(study.sessions[0]["image"], SIDE_PX)[rows]
            print(
                f"places, seed {seed}, edges: {peak_is_inside(edge_map(images), masks).mean():.2f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    jobs = {"names": names, "words": words, "dimension": dimension, "states": states, "concepts": concepts}
    jobs |= {"scaling": scaling, "session": whole_session}
    parser.add_argument("what", nargs="+", choices=[*jobs, "null", "cost"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--n-fits", type=int, default=100, help="of null: fits, each of two sessions")
    parser.add_argument("--first", type=int, default=0, help="of null: the first seed")
    given = parser.parse_args()
    for what in given.what:
        if what == "null":
            null(given.n_fits, given.first)
        elif what == "cost":
            cost()
        else:
            jobs[what](given.seeds)


if __name__ == "__main__":
    main()
