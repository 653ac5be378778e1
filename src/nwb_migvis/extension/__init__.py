"""The NWB extension `ndx-migvis`: importing this package registers its types with pynwb.

The type map is copied when a file is opened, so the import has to come before any `NWBHDF5IO`. A writer that
was opened earlier would store the results as empty groups without an error. `import nwb_migvis` does it.
"""

from __future__ import annotations

from nwb_migvis.extension.namespace import NAMESPACE, SPEC_FILE
from nwb_migvis.extension.types import (
    DecodingTable,
    LabelDecodingTable,
    LatentGroupsTable,
    MigvisModel,
    MigvisRun,
    NetworkWeights,
    ReaderScoresTable,
    SelectivityIndexTable,
    SelectivityTable,
    StimulusLabel,
    StimulusLabelsTable,
    StimulusLatentsTable,
    SynthesizedImagesTable,
    UnitLoadingsTable,
)

__all__ = [
    "NAMESPACE",
    "SPEC_FILE",
    "DecodingTable",
    "LabelDecodingTable",
    "LatentGroupsTable",
    "MigvisModel",
    "MigvisRun",
    "NetworkWeights",
    "ReaderScoresTable",
    "SelectivityIndexTable",
    "SelectivityTable",
    "StimulusLabel",
    "StimulusLabelsTable",
    "StimulusLatentsTable",
    "SynthesizedImagesTable",
    "UnitLoadingsTable",
]
