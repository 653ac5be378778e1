"""Places: where in images a group's information is, on planted truth."""

import numpy as np
import pytest

pytest.importorskip("sklearn")
from nwb_migvis import MigvisError, Study
from nwb_migvis.companions.places import (
    N_CELLS,
    blurred,
    centres,
    cover_places,
    full_size,
    peak_is_inside,
    windows,
)
from nwb_migvis.companions.statistics import measured
from nwb_migvis.config import GroupConfig
from nwb_migvis.testing import mock_session, tiny_config

GROUPS = tuple(GroupConfig(name=name, size=1) for name in ("corner", "middle", "blind"))


def _study():
    """Noise whose contrast varies in a corner, in the middle and elsewhere: two groups follow it."""
    n, px, rng = 240, 28, np.random.default_rng(0)
    session = mock_session(n_stimuli=n, n_repeats=1, size_px=px)
    contrast = rng.uniform(5, 40, (n, 3))
    spread = np.repeat(contrast[:, 2], px * px).reshape(n, px, px) * 0 + 10
    spread[:, :8, :8], spread[:, 10:18, 10:18] = contrast[:, :1, None], contrast[:, 1:2, None]
    image = np.clip(128 + spread * rng.normal(size=(n, px, px)), 0, 255).astype(np.uint8)
    session = session.assign(image=(("stimulus", "y", "x"), image))
    few = {"n_permutations": 199, "n_bootstrap": 99}
    config = tiny_config(evidence=few, companions={"network": "edges"}, split={"by": "stimulus"})
    study = Study(session, config)
    study.use_latents(contrast / 10 + 0.1 * rng.normal(size=(n, 3)), groups=GROUPS)
    return study


def test_planted_places_are_found_and_a_blind_group_is_nowhere():
    found = _study().compute("places")
    assert (found["seen_q"].sel(group=["corner", "middle"]) < 0.05).all()
    assert found["seen_q"].sel(group="blind") > 0.05 and (found["carried_q"].sel(group="blind") > 0.05).all()
    mask = np.zeros((32, 28, 28), bool)
    for name, place in (("corner", slice(0, 8)), ("middle", slice(10, 18))):
        own = mask.copy()
        own[:, place, place] = True
        assert peak_is_inside(found["map"].sel(group=name).values, own).mean() > 0.9
        peak = np.divmod(int(found["carried"].sel(group=name).values.argmax()), N_CELLS)
        assert own[0, int(centres(28)[peak[0]]), int(centres(28)[peak[1]])]
        assert found["carried_q"].sel(group=name).values[peak] < 0.05
        of_map, of_random = (found.sel(group=name, order=order) for order in ("map", "random"))
        assert of_map["deletion_high"] < of_random["deletion"]
        assert of_map["insertion_low"] > of_random["insertion"]
    assert found["picture"].shape == (6, 28, 28)


def test_a_covered_place_is_blurred_and_others_stay():
    images = np.random.default_rng(0).integers(0, 256, (2, 35, 28, 3), dtype=np.uint8)
    covered = cover_places(images)
    assert covered.shape == (2, 49, 35, 28, 3)
    y, x = int(centres(35)[3]), int(centres(28)[5])
    window = windows((35, 28))[3 * N_CELLS + 5]
    assert window[y, x] == pytest.approx(1, abs=0.02) and (images == covered[:, 26])[:, :4].all()
    np.testing.assert_allclose(covered[:, 26, y, x], blurred(images)[:, y, x], atol=4)


def test_maps_are_spread_by_windows():
    maps = np.zeros((1, N_CELLS, N_CELLS))
    maps[0, 2, 4] = 1
    spread = full_size(maps, (28, 28))[0]
    assert np.unravel_index(spread.argmax(), spread.shape) in [(y, x) for y in (9, 10) for x in (17, 18)]
    np.testing.assert_allclose(full_size(np.ones((1, 7, 7)), (20, 30)), 1)


def test_places_need_pixels():
    study = Study(mock_session(size_px=None), tiny_config())
    with pytest.raises(MigvisError, match="found no pixels of the images; expected some to compute 'places'"):
        study.compute("places")


def test_an_interval_without_resamples_is_no_interval():
    made = measured("x", ("g",), [0.5, 1.0], "x", resampled=np.array([[np.nan, 0.5], [np.nan, 1.5]]))
    assert np.isnan(made["x_low"][1][0]) and 0.5 < made["x_low"][1][1] < made["x_high"][1][1] < 1.5
    assert np.isfinite(measured("x", ("g",), [0.5], "x", resampled=np.zeros((0, 1)))["x_low"][1]).all()
