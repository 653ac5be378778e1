"""What the edits of a run look like, as a record of plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nwb_migvis.config import Config
from nwb_migvis.pipeline.stages import Edits, Fitted
from nwb_migvis.store.canonical import plain


def describe_edits(
    stimulus: Sequence[str], fitted: Fitted, edits: Edits, readers: Sequence[Any], config: Config, seed: int
) -> dict[str, Any]:
    """Return memorisation, realism, change without labels, and the ends of the directions.

    Nothing where the session has no pixels.
    """
    from nwb_migvis.evidence.appearance import (
        extreme_stimuli,
        feature_components,
        feature_transfer,
        memorisation,
        realism,
        start_dependence,
    )
    from nwb_migvis.evidence.kernel_reader import edge_features

    made = edits.synthesized
    if made.sizes["edit"] == 0:
        return {}
    main = made.isel(edit=np.flatnonzero(made["role"].values == "main"))
    traversals = made.isel(edit=np.flatnonzero(made["role"].values == "traversal"))
    method = main["method"].values
    sets = {str(name): main["image"].values[method == name] for name in dict.fromkeys(method)}
    if len(edits.samples):
        sets["samples"] = edits.samples
    train, test = (edits.images[fitted.split == part] for part in ("train", "test"))
    components = feature_components(edge_features, train)
    draws = {
        "n_bootstrap": config.evidence.n_bootstrap,
        "n_permutations": config.evidence.n_permutations,
        "seed": seed,
    }
    change = feature_transfer(
        main, images=edits.images, stimulus=stimulus, components=components, draws=draws
    )
    found = {
        "memorisation": memorisation(sets, train=train, held_out=test),
        "frechet": realism(
            sets,
            held_out=test,
            features={reader.kind: reader.features for reader in readers} or {"edges": edge_features},
            seed=seed,
        ),
        "feature_transfer": {
            group: {name: asdict(cell) for name, cell in cells.items()} for group, cells in change.items()
        },
        "start": start_dependence(traversals, components=components),
        "extremes": extreme_stimuli(edits.latents, stimulus, steps=edits.steps, slices=fitted.slices),
    }
    return plain(found)
