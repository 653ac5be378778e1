"""Units are chosen by what the file says of them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from layouts import N_IMAGES, SHOWN, image_container, picture, start_times, write
from pynwb import NWBFile, get_class, load_namespaces
from pynwb.image import IndexSeries
from pynwb.spec import NWBDatasetSpec, NWBGroupSpec, NWBNamespaceBuilder

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import read_session

COUNTS = [3, 1, 4, 1]
"""Spikes of each unit after the first presentation."""


@pytest.fixture
def nwb():
    nwb = NWBFile("units", "units", datetime(2026, 1, 1, tzinfo=UTC))
    device = nwb.create_device("probe")
    groups = [
        nwb.create_electrode_group(name, description=name, location=area, device=device)
        for name, area in (("shank0", "IT"), ("shank1", "V4"))
    ]
    for k, group in enumerate([groups[0], groups[0], groups[1]]):
        nwb.add_electrode(group=group, location=group.location, group_name=group.name, id=k)
    nwb.add_unit_column("quality", "quality")
    starts = start_times()
    units = [("good", [0]), ("good", [0, 1]), ("noise", [2]), ("good", [1, 2])]
    for j, (quality, electrodes) in enumerate(units):
        nwb.add_unit(
            id=5 + j,
            spike_times=np.full(COUNTS[j], starts[0] + 0.1),
            quality=quality,
            electrodes=electrodes,
            electrode_group=groups[electrodes[0] // 2],
        )
    container = image_container({f"pic{k}": picture(k) for k in range(N_IMAGES)})
    nwb.add_stimulus_template(container)
    data = np.array(SHOWN, np.uint8)
    nwb.add_stimulus(
        IndexSeries(name="shown", data=data, indexed_images=container, unit="N/A", timestamps=starts)
    )
    return nwb


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("quality == 'good'", [5, 6, 8]),
        ("quality == 'good' and id > 5", [6, 8]),
        ("location == 'IT'", [5, 6]),
        ("location in ['IT', 'V4']", [5, 6, 7]),
        ("electrode_group == 'shank1'", [7]),
        ("group_name == 'shank0'", [5, 6]),
    ],
)
def test_query_on_columns_and_electrodes(nwb, tmp_path, query, ids):
    session = read_session(write(nwb, tmp_path / "a.nwb"), units=query)
    assert session["unit"].values.tolist() == ids
    assert session["spike_count"][0].values.tolist() == [COUNTS[k - 5] for k in ids]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("qualty == 'good'", "'qualty' is not defined.*its columns: id, quality"),
        ("quality ==", "does not fit"),
        ("quality == 'mua'", "selects none of the 4 units"),
        ("id + 1", "does not fit|selects"),
    ],
)
def test_query_that_does_not_fit(nwb, tmp_path, query, message):
    with pytest.raises(MigvisError, match=message):
        read_session(write(nwb, tmp_path / "a.nwb"), units=query)


def test_query_on_a_table_of_metrics(nwb, tmp_path):
    """A table like that of ndx-spikesorting, whose rows name their unit."""
    author = {"author": "x", "contact": "x@example.org"}
    builder = NWBNamespaceBuilder("metrics", "ndx-metrics-test", version="0.1.0", **author)
    for name in ("DynamicTable", "DynamicTableRegion"):
        builder.include_type(name, namespace="hdmf-common")
    region = NWBDatasetSpec("the unit", name="unit", neurodata_type_inc="DynamicTableRegion")
    kinds = {"neurodata_type_def": "UnitsMetrics", "neurodata_type_inc": "DynamicTable"}
    builder.add_spec("ndx-metrics-test.extensions.yaml", NWBGroupSpec("metrics", datasets=[region], **kinds))
    builder.export("ndx-metrics-test.namespace.yaml", outdir=str(tmp_path))
    load_namespaces(str(tmp_path / "ndx-metrics-test.namespace.yaml"))
    table = get_class("UnitsMetrics", "ndx-metrics-test")(name="metrics", description="metrics")
    table["unit"].table = nwb.units
    table.add_column("snr", "signal to noise")
    for row, snr in ((3, 8.0), (0, 1.5), (1, 6.0)):
        table.add_row(unit=row, snr=snr)
    nwb.create_processing_module("ecephys", "sorting").add(table)
    path = write(nwb, tmp_path / "a.nwb")
    session = read_session(path, units="snr > 5 and quality == 'good'")
    assert session["unit"].values.tolist() == [6, 8]
