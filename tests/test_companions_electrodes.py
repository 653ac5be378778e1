"""Loadings by electrode position: planted gradients, and what files say of positions."""

import numpy as np
import pytest
from layouts import new_file, write

from nwb_migvis import MigvisError, Study
from nwb_migvis.analysis.units import unit_positions
from nwb_migvis.companions.electrodes import correlations
from nwb_migvis.levels import Exchange
from nwb_migvis.read.places import read_recording
from nwb_migvis.testing import mock_session, tiny_config


def _test(loading, position, site, seed=0):
    rng, sites = np.random.default_rng(seed), Exchange(site)
    data = correlations(
        loading, position, order=sites.permutations(199, rng), weight=sites.bootstrap(99, rng)
    )
    return {name: values for name, (_, values, _) in data.items()}


def test_correlations_are_spearmans_and_gradients_are_found():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    position = np.stack([np.repeat(np.arange(40.0), 2), np.repeat(rng.normal(size=40), 2)], axis=1)
    loading = np.stack([position[:, 0] + 8 * rng.normal(size=80), rng.normal(size=80)], axis=1)
    found = _test(loading, position, np.repeat(np.arange(40), 2))
    for g, a in np.ndindex(2, 2):
        assert found["correlation"][g, a] == pytest.approx(spearmanr(loading[:, g], position[:, a])[0])
    assert found["correlation_p"][0, 0] == 1 / 200 and (found["correlation_p"].ravel()[1:] > 0.05).all()
    assert found["correlation_low"][0, 0] > 0.4 and found["correlation_high"][0, 0] < 1
    turned = _test(-loading, position, np.repeat(np.arange(40), 2))
    np.testing.assert_allclose(turned["correlation_p"], found["correlation_p"])


def test_units_of_one_electrode_are_exchanged_together():
    p, naive = [], []
    for seed in range(60):
        rng = np.random.default_rng([seed, 1])
        site = np.repeat(np.arange(12), 8)
        loading = (rng.normal(size=12)[site] + 0.3 * rng.normal(size=96))[:, None]
        position = rng.normal(size=12)[site][:, None]
        p.append(_test(loading, position, site, seed)["correlation_p"].item())
        naive.append(_test(loading, position, np.arange(96), seed)["correlation_p"].item())
    assert np.mean(np.array(p) <= 0.1) < 0.25 and 0.35 < np.mean(p) < 0.65
    assert np.mean(np.array(naive) <= 0.1) > 0.4


def _study(session):
    study = Study(session, tiny_config(latents={"n_steps": 5, "n_hidden": 8}))
    study.fit_latents()
    return study


def test_an_analysis_of_electrodes_omits_units_without_a_position():
    session = mock_session(n_stimuli=80, size_px=None)
    depth = np.repeat(np.arange(12.0), 2)
    depth[0] = np.nan
    study = _study(session.assign_coords(depth=("unit", depth), z=("unit", np.ones(24))))
    found = study.compute("electrodes")
    assert found.sizes == {"unit": 23, "group": len(study.latents.groups), "axis": 1}
    assert found["axis"].values.tolist() == ["depth"] and found["unit"].values[0] == 1
    loading = study.latents.model.loading()[1:, :6].astype(float)
    np.testing.assert_allclose(found["loading"].values[:, 0], np.sqrt((loading**2).mean(axis=1)))
    assert found.attrs["note"] == "1 units without a position are omitted"
    study.use_latents(np.zeros((80, 2)))
    with pytest.raises(MigvisError, match="the latents were given as an array"):
        study.compute("electrodes")


@pytest.mark.parametrize(
    "coords, message",
    [
        ({}, r"found 0 positions of units \(no column of them\); expected 10 or more different ones"),
        ({"depth": np.repeat([1.0, 2.0], 12)}, r"found 2 positions of units \(depth\)"),
    ],
)
def test_positions_that_are_too_few_are_named(coords, message):
    session = mock_session(n_stimuli=80, size_px=None)
    session = session.assign_coords({name: ("unit", values) for name, values in coords.items()})
    with pytest.raises(MigvisError, match=message):
        Study(session, tiny_config()).compute("electrodes")


def _recorded(tmp_path, electrodes, **columns):
    file = new_file([])
    device = file.create_device(name="array")
    group = file.create_electrode_group(name="shank", description="d", location="IT", device=device)
    for i in range(4):
        file.add_electrode(location="IT", group=group, rel_x=float(i), rel_y=5.0, id=100 + i)
    file.units = None
    for name in columns:
        file.add_unit_column(name, "d")
    for i in range(3):
        more = {"electrodes": electrodes[i]} if electrodes else {}
        file.add_unit(spike_times=[1.0, 2.0], **more, **{name: own[i] for name, own in columns.items()})
    return write(file, tmp_path / "s.nwb")


@pytest.mark.parametrize(
    "electrodes, columns, expected",
    [
        ([[0], [1, 2], [3]], {}, {"rel_x": [0, 1.5, 3], "rel_y": [5, 5, 5]}),
        ([[0], [1], []], {"depth": [7.0, 8.0, 9.0]}, {"rel_x": [0, 1, np.nan], "depth": [7, 8, 9]}),
        (None, {"peak_channel_id": [103, 100, 999]}, {"rel_x": [3, 0, np.nan]}),
        (None, {}, {}),
    ],
)
def test_positions_are_those_of_the_file(tmp_path, electrodes, columns, expected):
    path = _recorded(tmp_path, electrodes, **columns)
    found = read_recording(path).position
    assert set(found) >= set(expected) and bool(found) == bool(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    session = mock_session(n_stimuli=80, size_px=None).isel(unit=[0, 1, 2]).assign_attrs(source=str(path))
    placed = unit_positions(session)
    varies = {name for name, own in found.items() if len(np.unique(own[np.isfinite(own)])) > 1}
    assert set(placed.axis) == varies and placed.n_sites == len(placed.unit)
