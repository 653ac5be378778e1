"""Results in NWB files: written so that nothing is lost, read without torch, and checked."""

from __future__ import annotations

from nwb_migvis.store.content import check_unlinked
from nwb_migvis.store.copying import check_nothing_lost, check_writable
from nwb_migvis.store.decode import list_runs, read_results, read_weights
from nwb_migvis.store.destination import SPARE_BYTES, Destination, check_destination, check_new_file
from nwb_migvis.store.private import remove_temporary, reserve, sweep_temporary_files, temporary_path
from nwb_migvis.store.sidecar import read_sidecar, sidecar_path, write_sidecar
from nwb_migvis.store.validate import IMPORTANCES, Finding, validate_file
from nwb_migvis.store.weights import building, check_models
from nwb_migvis.store.write import (
    fingerprint,
    remove_run,
    restore_sidecar,
    without_unit_rows,
    write_results,
)

__all__ = [
    "IMPORTANCES",
    "SPARE_BYTES",
    "Destination",
    "Finding",
    "building",
    "check_destination",
    "check_models",
    "check_new_file",
    "check_nothing_lost",
    "check_unlinked",
    "check_writable",
    "fingerprint",
    "list_runs",
    "read_results",
    "read_sidecar",
    "read_weights",
    "remove_run",
    "remove_temporary",
    "reserve",
    "restore_sidecar",
    "sidecar_path",
    "sweep_temporary_files",
    "temporary_path",
    "validate_file",
    "without_unit_rows",
    "write_results",
    "write_sidecar",
]
