"""The record of one run: what `run` returns, `write` stores and `read_results` reads back."""

from nwb_migvis.results.record import (
    EDIT_COORDS,
    EDIT_MAPS,
    GROUP_COLUMNS,
    OPTIONAL_GROUP_COLUMNS,
    PART_COLUMNS,
    PARTS,
    ROLES,
    SPLITS,
    Results,
    no_decoding,
    no_edits,
    no_labels,
    no_selectivity,
)

__all__ = [
    "EDIT_COORDS",
    "EDIT_MAPS",
    "GROUP_COLUMNS",
    "OPTIONAL_GROUP_COLUMNS",
    "PARTS",
    "PART_COLUMNS",
    "ROLES",
    "SPLITS",
    "Results",
    "no_decoding",
    "no_edits",
    "no_labels",
    "no_selectivity",
]
