"""The record of one run: what `run` returns, `write` stores and `read_results` reads back."""

from nwb_migvis.results.record import (
    BY_CELL,
    BY_LABEL,
    BY_METHOD,
    EDIT_COORDS,
    EDIT_MAPS,
    GROUP_COLUMNS,
    OPTIONAL_EDIT_COORDS,
    OPTIONAL_GROUP_COLUMNS,
    ROLES,
    SPLITS,
    Results,
    no_decoding,
    no_edits,
    no_labels,
    no_selectivity,
)

__all__ = [
    "BY_CELL",
    "BY_LABEL",
    "BY_METHOD",
    "EDIT_COORDS",
    "EDIT_MAPS",
    "GROUP_COLUMNS",
    "OPTIONAL_EDIT_COORDS",
    "OPTIONAL_GROUP_COLUMNS",
    "ROLES",
    "SPLITS",
    "Results",
    "no_decoding",
    "no_edits",
    "no_labels",
    "no_selectivity",
]
