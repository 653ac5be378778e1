"""Results in NWB files: written so that nothing is lost, read without torch, and checked."""

from __future__ import annotations

from nwb_migvis.store.decode import list_runs, read_results, read_weights
from nwb_migvis.store.destination import check_destination, check_new_file, temporary_path
from nwb_migvis.store.validate import IMPORTANCES, Finding, validate_file
from nwb_migvis.store.write import check_nothing_lost, fingerprint, write_results

__all__ = [
    "IMPORTANCES",
    "Finding",
    "check_destination",
    "check_new_file",
    "check_nothing_lost",
    "fingerprint",
    "list_runs",
    "read_results",
    "read_weights",
    "temporary_path",
    "validate_file",
    "write_results",
]
