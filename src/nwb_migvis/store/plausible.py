"""What results cannot be: values out of range, names that nothing has, parts that contradict each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nwb_migvis.config import Config
from nwb_migvis.errors import MigvisError
from nwb_migvis.results import ROLES, SPLITS, Results
from nwb_migvis.store.gate import MOST_TEXT

_PROBABILITY = re.compile(r".*(_p|_q|p_value|q_value)")
_AT_MOST_1 = re.compile(
    r"stability|decoding|score|score_all|reader_score|r2|noise_ceiling|reliability|mig|sap"
)
_NOT_NEGATIVE = re.compile(
    r"stability|participation_ratio|twonn_dimension|mi_cap_nats|n_presentations|guidance|seed|mig|sap|"
    r"predicted_rate"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ROUNDING = 1e-6

Fault = tuple[str, str]
"""A place below the run, and what is wrong there."""


def faults_of(results: Results) -> Iterator[Fault]:
    """Yield what a run cannot have said, each with its place below the run."""
    yield from _names(results)
    yield from _odd_values(results)
    yield from _contradictions(results)
    yield from _provenance(results.provenance)


def _names(results: Results) -> Iterator[Fault]:
    edits, selectivity, decoding = results.synthesized, results.selectivity, results.decoding
    stimuli, groups = set(results.latents["stimulus"].values), set(results.groups.index)
    texts: tuple[tuple[str, Any, set[str] | None], ...] = (
        ("latent_groups/group", results.groups.index.to_numpy(dtype=str), None),
        *(
            (f"latent_groups/{n}", results.groups[n].to_numpy(dtype=str), None)
            for n in ("supervised_by", "verdict")
            if n in results.groups
        ),
        ("stimulus_latents/stimulus", results.latents["stimulus"].values, None),
        ("stimulus_latents/split", results.latents["split"].values, set(SPLITS)),
        ("synthesized_images/group", edits["group"].values, groups),
        ("synthesized_images/source", edits["source"].values, stimuli),
        ("synthesized_images/target", edits["target"].values, stimuli | {""}),
        ("synthesized_images/role", edits["role"].values, set(ROLES)),
        ("synthesized_images/method", edits["method"].values, None),
        ("synthesized_images/direction", edits["direction"].values, None),
        *(
            (f"selectivity/{n}", c.values, groups if n == "group" else None)
            for n, c in selectivity.coords.items()
        ),
        *((f"decoding/{n}", c.values, groups if n == "group" else None) for n, c in decoding.coords.items()),
    )
    may_be_empty = ("supervised_by", "target", "direction")
    for place, values, expected in texts:
        strange = sorted(set(values.tolist()) - expected) if expected is not None else []
        if strange:
            yield place, f"{len(strange)} unknown values, the first {strange[0]!r:.100}"
        odd = [v for v in values.tolist() if not v.isprintable() or ".." in v.split("/") or v.startswith("/")]
        if "" in values.tolist() and not place.endswith(may_be_empty):
            odd.append("")
        if odd:
            yield place, f"the name {odd[0]!r:.100}"
    if len(stimuli) < results.latents.sizes["stimulus"]:
        yield "stimulus_latents/stimulus", "a stimulus twice"


def _odd_values(results: Results) -> Iterator[Fault]:
    columns = [(f"latent_groups/{n}", results.groups[n].to_numpy()) for n in results.groups]
    for table, dataset in (
        ("stimulus_latents", results.latents),
        ("unit_loadings", results.units),
        ("synthesized_images", results.synthesized),
        ("selectivity", results.selectivity),
        ("decoding", results.decoding),
    ):
        columns += [(f"{table}/{n}", v.values) for n, v in dataset.variables.items() if n != "image"]
    for place, values in columns:
        name = place.rpartition("/")[2]
        if values.dtype.kind not in "if" or not values.size:
            continue
        if np.isinf(values).any():
            yield place, "values that are not finite"
        if _PROBABILITY.fullmatch(name) and ((values < 0) | (values > 1)).any():
            yield place, "values outside [0, 1]"
        elif _AT_MOST_1.fullmatch(name) and (values > 1 + _ROUNDING).any():
            yield place, "values above 1"
        if _NOT_NEGATIVE.fullmatch(name) and (values < -_ROUNDING).any():
            yield place, "values below 0"
    for name in ("mean", "log_var"):
        latents = results.latents[name].values
        is_given = name == "log_var" and np.isnan(latents).all()  # latents that came as an array have none
        if not is_given and np.isnan(latents).any():
            yield f"stimulus_latents/{name}", "values that are not finite"
    for name in ("guidance", "strength", "score_before", "score_after"):
        if np.isnan(results.synthesized[name].values).any():
            yield f"synthesized_images/{name}", "values that are not finite"
    strength = results.synthesized["strength"].values
    if not ((strength > 0) & (strength <= 1)).all():
        yield "synthesized_images/strength", "values outside (0, 1]"


def _contradictions(results: Results) -> Iterator[Fault]:
    edits = results.synthesized
    if "test" not in results.latents["split"].values:
        yield "stimulus_latents/split", "no stimulus was held out"
    if "train" not in results.latents["split"].values:
        yield "stimulus_latents/split", "no stimulus was trained on"
    if edits.sizes["edit"] and not edits["image"].size:
        yield "synthesized_images/image", "images without pixels"
    elif edits.sizes["edit"]:
        pixels = edits["image"].values.reshape(edits.sizes["edit"], -1)
        blank = np.flatnonzero((pixels == pixels[:, :1]).all(axis=1))
        if len(blank):
            yield "synthesized_images/image", f"{len(blank)} blank images, the first in row {blank[0]}"
    if "predicted_rate" in edits and edits.sizes["unit"] != results.units.sizes["unit"]:
        message = f"{edits.sizes['unit']} units; unit_loadings has {results.units.sizes['unit']}"
        yield "synthesized_images/predicted_rate", message
    if ("map" in edits) != ("critic_map" in edits):
        yield "synthesized_images", "only one of map and critic_map"
    n_latents = int(results.groups["size"].sum())
    if results.units.sizes["latent"] != n_latents:
        message = f"{results.units.sizes['latent']} latents per unit; the groups have {n_latents}"
        yield "unit_loadings/loading", message
    for name in ("transfer", "retention"):
        low, high = (results.selectivity[f"{name}_{end}"].values for end in ("low", "high"))
        if (low > high).any():
            yield f"selectivity/{name}_low", f"above {name}_high"
    if (results.groups["mi_bound_nats"] > results.groups["mi_cap_nats"] + 1e-3).any():
        yield "latent_groups/mi_bound_nats", "above mi_cap_nats"


def _provenance(provenance: Mapping[str, Any]) -> Iterator[Fault]:
    where = "model@provenance"
    records = {key: value for key, value in provenance.items() if key != "reading"}  # a user's own words
    for place, text in _texts_in(records):
        if not text.isprintable() or len(text) > MOST_TEXT:
            yield where, f"{place} is {text!r:.60}"
    for key, kinds in _KINDS.items():
        value = provenance.get(key)
        if key in provenance and not _is_of(value, kinds):
            yield where, f"{key} is {value!r:.60}"
    for key in ("weights", "inputs"):
        yield from _digests(key, provenance.get(key))
    if "config" in provenance:
        try:
            Config.from_dict(provenance["config"])
        except MigvisError as error:
            if "expected one of" not in str(error):  # else a name that another package may register
                yield "model@config", str(error)


def _texts_in(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in JSON, with its place; names of keys are texts too."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield place or "a key", key
            yield from _texts_in(item, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _texts_in(item, f"{place}[{i}]")


_KINDS: dict[str, Any] = {
    "n_threads": int,
    "n_units_left_out": int,
    "device": str,
    "versions": {str: str},
    "seeds": {str: int},
    "notes": [str],
    "session": dict,
    "appearance": dict,
    "encoding": dict,
    "prior": dict,
    "reading": dict,
    "shared_with": list,
}
"""Types of what a run records; {key: value} and [value] are those of all keys and values."""


def _is_of(value: Any, kind: Any) -> bool:
    if isinstance(kind, dict):
        (of_value,) = kind.values()
        return isinstance(value, dict) and all(_is_of(v, of_value) for v in value.values())
    if isinstance(kind, list):
        return isinstance(value, list) and all(_is_of(v, kind[0]) for v in value)
    if kind is int:
        return type(value) is int and value >= 0
    return isinstance(value, kind) and (kind is not str or len(value) <= 2**16)


def _digests(key: str, value: Any) -> Iterator[Fault]:
    records = value.values() if isinstance(value, dict) else value or ()
    digests = [
        record.get("sha256", record.get("spikes_sha256")) if isinstance(record, dict) else record
        for record in records
    ]
    for digest in digests:
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            yield "model@digests", f"{key} holds {digest!r:.60}; expected a sha256"
