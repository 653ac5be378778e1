"""Places: where in images a group's information is, on planted truth."""

import numpy as np
import pytest

pytest.importorskip("sklearn")
from nwb_migvis import MigvisError, Study
from nwb_migvis.companions.cells import N_CELLS, centres, full_size, peak_is_inside, windows
from nwb_migvis.companions.place_features import CROPS, SHIFTS, Layer, PlaceReader, read_places, views
from nwb_migvis.companions.places import blurred, cover_places
from nwb_migvis.companions.statistics import measured
from nwb_migvis.config import GroupConfig
from nwb_migvis.evidence.readers.kernel import edge_features
from nwb_migvis.evidence.ridge import fit_ridge
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


def test_places_of_features_point_as_covered_ones_do_and_a_blind_group_to_none():
    found = _study().compute("places")
    mask = np.zeros((32, 28, 28), bool)
    assert found["order"].values.tolist() == ["map", "feature_map", "edges", "random"]
    assert (found["contributed_q"].sel(group="blind") > 0.05).all()
    for name, place in (("corner", slice(0, 8)), ("middle", slice(10, 18))):
        own = mask.copy()
        own[:, place, place] = True
        peak = np.divmod(int(found["contributed"].sel(group=name).values.argmax()), N_CELLS)
        assert own[0, int(centres(28)[peak[0]]), int(centres(28)[peak[1]])]
        assert found["contributed_q"].sel(group=name).values[peak] < 0.05
        of_map, of_random = (found.sel(group=name, order=order) for order in ("feature_map", "random"))
        assert of_map["deletion_high"] < of_random["deletion"]
        assert of_map["insertion_low"] > of_random["insertion"]


def _layer(images):
    return Layer.of("edges", images)


@pytest.mark.parametrize("shape", [(30, 28, 28), (30, 40, 24, 3)])
def test_places_of_features_add_up_to_the_reading(shape):
    rng = np.random.default_rng(0)
    images, goal = rng.integers(0, 256, shape, dtype=np.uint8), rng.normal(size=(30, 2))
    layer = _layer(images)
    reader = PlaceReader.fit(layer, (images[:20], goal[:20]), (images[20:], goal[20:]))
    without = blurred(images).astype(np.uint8)
    parts = reader.contributions(images, without)
    np.testing.assert_allclose(parts.sum(axis=(1, 2)), reader.read(images) - reader.read(without), atol=1e-9)
    assert parts.shape[1:3] == (len(layer.down), len(layer.across))
    assert (read_places(images, images, reader) == 0).all()
    assert Layer.of("mean-color", images) is None


def test_a_reading_from_places_is_ridge_regression():
    rng = np.random.default_rng(0)
    images, goal = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8), rng.normal(size=(60, 2))
    reader = PlaceReader.fit(_layer(images), (images, goal))
    expected = fit_ridge(edge_features(images), goal).predict(edge_features(images))
    np.testing.assert_allclose(reader.read(images), expected, atol=1e-9)


def test_a_reading_is_from_averages_where_these_read_new_images_better():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (80, 28, 28), dtype=np.uint8)
    strength = rng.uniform(0.1, 1, (80, 1, 1))
    images = np.clip(128 + strength * (images - 128.0), 0, 255).astype(np.uint8)
    pair = [(images[rows], strength[rows, :, 0]) for rows in (slice(40), slice(40, 80))]
    weight = PlaceReader.fit(_layer(images), *pair).weight
    assert len(np.unique(weight[0, :, :, 0].round(12))) <= 9  # windows of two averages overlap
    assert len(np.unique(PlaceReader.fit(_layer(images), pair[0]).weight[0, :, :, 0].round(12))) > 9


def test_a_place_that_is_read_alone_has_the_reading():
    rng = np.random.default_rng(0)
    contrast = rng.uniform(5, 40, (300, 1, 1))
    images = 128 + 10 * rng.normal(size=(300, 32, 32))
    images[:, 7:13, 19:25] = 128 + contrast * rng.normal(size=(300, 6, 6))
    images = np.clip(images, 0, 255).astype(np.uint8)
    goal = (contrast[:, :, 0] - contrast.mean()) / contrast.std()
    reader = PlaceReader.fit(_layer(images), (images, goal))
    cells = read_places(images, blurred(images).astype(np.uint8), reader)
    peaks = (cells**2).mean(axis=(0, 3))
    assert np.unravel_index(peaks.argmax(), peaks.shape) == (2, 4)
    assert peaks[:, :2].max() < 0.1 * peaks.max() and peaks[5:].max() < 0.1 * peaks.max()
    assert np.corrcoef(cells.sum(axis=(1, 2, 3)), reader.read(images)[:, 0])[0, 1] > 0.9


def test_views_say_what_they_show():
    y, x = np.mgrid[:40, :60]
    images = np.stack([4 * y, 4 * x]).astype(np.uint8)
    seen = list(views(images))
    assert len(seen) == len(SHIFTS) ** 2 + len(CROPS)
    for view, start, side in seen:
        assert view.shape == images.shape
        for axis, n in enumerate((40, 60)):
            middle = view[axis].astype(float).mean(axis=1 - axis)[10:-10]
            expected = 4 * n * (start[axis] + side[axis] * (np.arange(10, n - 10) + 0.5) / n) - 2
            within = (expected > 0) & (expected < 4 * n - 4)
            np.testing.assert_allclose(middle[within], expected[within], atol=3)
    np.testing.assert_array_equal(seen[len(SHIFTS) ** 2 // 2][0], images)


@pytest.mark.parametrize(("number", "n_places", "two"), [(4, 7, (2, 5)), (6, 4, (1, 3))])
def test_places_of_a_stage_are_the_middles_of_their_fields_of_view(number, n_places, two):
    torch = pytest.importorskip("torch")
    from nwb_migvis.networks.efficientnet_lite import EfficientNetLite, stage_centres

    centre = stage_centres(number, 112)
    assert len(centre) == n_places
    network = EfficientNetLite(0).eval().double()
    with torch.no_grad():
        for conv in (m for m in network.modules() if isinstance(m, torch.nn.Conv2d)):
            middle = conv.weight[:, :, conv.kernel_size[0] // 2, conv.kernel_size[0] // 2].clone()
            conv.weight.zero_()  # then each place sees the middle of its field alone
            conv.weight[:, :, conv.kernel_size[0] // 2, conv.kernel_size[0] // 2] = middle.abs() + 1e-3
    x = torch.full((1, 3, 112, 112), 1e-3, dtype=torch.float64, requires_grad=True)
    activations = network.stage(x, number)
    torch.testing.assert_close(activations, network.stages(x)[number - 1])
    (seen,) = torch.autograd.grad(activations[0, :, two[0], two[1]].sum(), x)
    rows, columns = np.nonzero(seen[0].sum(dim=0).numpy())
    np.testing.assert_allclose((rows + 0.5) / 112, centre[two[0]])
    np.testing.assert_allclose((columns + 0.5) / 112, centre[two[1]])


def test_a_network_without_places_has_no_map_of_features(monkeypatch):
    monkeypatch.setattr(Layer, "of", classmethod(lambda cls, *about, **more: None))
    found = _study().compute("places")
    assert "features of edges have no places" in found.attrs["note"]
    assert "feature_map" not in found and "seen_by_features" not in found
    assert "contributed" not in found.attrs["headline"]
