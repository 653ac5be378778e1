"""The NWB extension `ndx-migvis`: importing this package registers its types with pynwb.

It needs pynwb and hdmf alone; the package `nwb_migvis` builds on it. The type map is copied when a file is
opened, so the import has to come before any `NWBHDF5IO`. A writer that was opened earlier would store the
results as empty groups without an error. `import nwb_migvis` does it.

`ndx_migvis.testing` makes small objects of every type.
"""

from __future__ import annotations

from ndx_migvis.errors import MigvisError
from ndx_migvis.namespace import NAMESPACE, SPEC_FILE
from ndx_migvis.types import (
    AnalysisTable,
    DecodingTable,
    FurtherAnalyses,
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
    "AnalysisTable",
    "DecodingTable",
    "FurtherAnalyses",
    "LabelDecodingTable",
    "LatentGroupsTable",
    "MigvisError",
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
