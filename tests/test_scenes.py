"""Scenes of the simulator that are not the usual one: solids, light, photographs, pictures, tuning."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nwb_migvis import MigvisError, read_session
from nwb_migvis.simulate import Scene, draw_population, read_ground_truth, render_stimuli, simulate_session
from nwb_migvis.simulate.features import feature_maps
from nwb_migvis.simulate.forms import SOLIDS
from nwb_migvis.simulate.population import TUNINGS
from nwb_migvis.simulate.render import RANGES, draw_factors
from nwb_migvis.simulate.solids import Category, Part
from nwb_migvis.simulate.variants import CHOOSE, REPORT, VARIANTS, variant

NEUTRAL = {name: [(low + high) / 2] for name, (low, high) in RANGES.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures with transparency and their list, and photographs."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(6):
        picture = np.zeros((24, 32, 4), np.uint8)
        picture[4:20, 4:28, :3] = 40 + 30 * i
        picture[4:20, 4:28, 3] = 255
        Image.fromarray(picture).save(folder / f"p{i}.png")
        rows.append({"file": f"p{i}.png", "category": "ab"[i % 2]})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    (folder / "photographs").mkdir()
    for i in range(3):
        pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photographs" / f"{i}.png")
    return folder


def silhouette(power, half, **columns):
    """Return the share of the image that one white superquadric covers."""
    part = Part(f"superquadric_{power}", np.zeros((1, 3)), np.array([half]), (0.0, 0.0, 0.0), 1.0)
    kinds = {"thing": Category(lambda a, b: [part], 0.0, 0.0, 1.0)}
    factors = pd.DataFrame({**NEUTRAL, "category": ["thing"], **{k: [v] for k, v in columns.items()}})
    image = render_stimuli(factors, size_px=128, background="plain", kinds=kinds)[0].astype(int)
    return (image > image[0, 0] + 4).mean()


def test_superquadrics_cover_the_area_of_their_projections():
    # |x|^p + |y|^p <= 1 covers 4 Gamma(1 + 1/p)^2 / Gamma(1 + 2/p): 2, pi, 3.708, 3.905 for 1, 2, 4, 8.
    for power, area in ((1, 2.0), (2, np.pi), (4, 3.7081), (8, 3.9047)):
        assert silhouette(power, (0.6, 0.4, 0.5), size=1.0) == pytest.approx(area * 0.6 * 0.4 / 4, rel=0.04)
    turned = np.hypot(0.6 * np.cos(np.pi / 6), 0.5 * np.sin(np.pi / 6))
    share = silhouette(2, (0.6, 0.4, 0.5), size=1.0, rotation_y=30.0)
    assert share == pytest.approx(np.pi * turned * 0.4 / 4, rel=0.04)


def test_the_default_scene_is_that_of_every_earlier_session():
    scene = Scene()
    factors = scene.draw(10, seed=3)
    pd.testing.assert_frame_equal(factors, draw_factors(10, seed=3))
    expected = render_stimuli(factors, size_px=16, seed=3)
    np.testing.assert_array_equal(scene.render(factors, size_px=16, seed=3), expected)
    assert scene.is_default and not Scene(solids="compounds").is_default


@pytest.mark.parametrize("solids", list(SOLIDS))
def test_every_category_shows_and_differs_from_the_others(solids):
    scene = Scene(solids=solids, background="plain")
    names = scene.categories
    factors = pd.DataFrame({name: values * 8 for name, values in NEUTRAL.items()}).assign(category=names)
    images = scene.render(factors, size_px=32, seed=0).astype(float)
    assert len(names) == 8 and (images.std(axis=(1, 2)) > 8).all()
    apart = np.abs(images[:, None] - images[None]).mean(axis=(2, 3))[~np.eye(8, dtype=bool)]
    assert apart.min() > 4


def test_light_is_what_was_asked_for():
    dark = Scene(
        background="plain", background_level=(0.8, 0.8), object_level=(0.2, 0.2), object_contrast=(0, 0)
    )
    factors = dark.draw(4, seed=0)
    images = dark.render(factors, size_px=32, seed=0)
    assert (images[:, 0, 0] == 204).all()
    assert (np.abs(images.astype(int) - 51).min(axis=(1, 2)) <= 1).all()
    varied = Scene(background_level=(0.1, 0.7)).render(factors, size_px=16, seed=0)
    assert varied[:, 0].mean(axis=1).std() > 20


def test_photographs_are_behind_and_pictures_before(folder):
    scene = Scene(pictures=folder, photographs=folder / "photographs", background_contrast=(0.2, 0.2))
    factors = scene.draw(12, seed=0)
    assert scene.labels == ("rotation_z", "position_x", "position_y", "size", "category")
    assert (factors["rotation_x"] == 0).all() and set(factors["category"]) == {"a", "b"}
    images = scene.render(factors, size_px=32, seed=0)
    np.testing.assert_array_equal(images, scene.render(factors, size_px=32, seed=0))
    levels = np.array([40 + 30 * i for i in factors["picture"]])
    centre = (16 * (1 + factors["position_x"])).astype(int), (16 * (1 - factors["position_y"])).astype(int)
    at = images[np.arange(12), centre[1], centre[0]]
    assert np.abs(at.astype(int) - levels).max() <= 6
    for wrong, message in (
        ({"pictures": folder / "none"}, "labels.csv"),
        ({"photographs": folder / "none"}, "found no such folder"),
        ({"solids": "cubes"}, "solids 'cubes' are unknown"),
        ({"object_level": (0.6, 0.2)}, "expected 0 <= from <= to <= 2"),
    ):
        with pytest.raises(MigvisError, match=message):
            Scene(**wrong)


def test_a_session_of_pictures_has_their_labels(folder, tmp_path, call):
    code, _, errors = call(
        "simulate",
        tmp_path / "s.nwb",
        "--pictures",
        folder,
        "--n-stimuli",
        24,
        "--n-repeats",
        2,
        "--size",
        16,
    )
    assert code == 0, errors
    session = read_session(tmp_path / "s.nwb")
    assert {"rotation_z", "size", "category"} <= set(session.coords) and "rotation_x" not in session.coords
    assert "shape_1" in read_ground_truth(tmp_path / "s.nwb")


def test_forms_of_tuning():
    factors = draw_factors(600, seed=5)
    rates = {form: draw_population(seed=0, form=form).rate_hz(factors) for form in TUNINGS}
    assert not np.allclose(rates["bumps"], rates["monotone"])
    sparse = np.median(rates["sparse"] < 0.5 * rates["sparse"].mean(axis=0))
    activity = {form: (rate.mean(0) ** 2 / (rate**2).mean(0)).mean() for form, rate in rates.items()}
    assert activity["sparse"] < 0.6 * activity["bumps"] and sparse == 1
    pose = draw_population({"pose": 20}, seed=0, form="monotone")
    assert pose.rate_hz(factors).std(axis=0).min() > 0
    with pytest.raises(MigvisError, match="tuning 'flat' is unknown"):
        draw_population(seed=0, form="flat")


def test_features_are_frozen_and_see_the_image():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 16, 16), dtype=np.uint8)
    describe = feature_maps("random")
    features = describe(images)
    np.testing.assert_allclose(features[1:2], describe(images[1:2]), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(describe(np.repeat(images[..., None], 3, axis=-1)), features)
    assert np.abs(features[0] - features[1]).max() > 0.01
    with pytest.raises(MigvisError, match="features 'eyes' are unknown"):
        feature_maps("eyes")


def test_variants_are_halved_and_can_be_made(folder, tmp_path):
    uses = [own.use for own in VARIANTS.values()]
    assert uses.count(CHOOSE) == uses.count(REPORT) == 8
    kinds = [str((dict(own.settings), dict(own.scene), own.needs)) for own in VARIANTS.values()]
    assert len(set(kinds)) == len(kinds)
    for own in VARIANTS.values():
        size = own.settings
        assert 1500 <= size["n_stimuli"] <= 6000 and 4 <= size["n_repeats"] <= 20
        assert 60 <= sum(size["units"].values()) <= 300
    folders = {"pictures": folder, "photographs": folder / "photographs"}
    small = {"n_stimuli": 20, "n_repeats": 2, "size_px": 8, "units": {"pose": 2, "category": 2}}
    path = variant("pictures-photographs").simulate(tmp_path / "v.nwb", folders=folders, **small)
    assert read_session(path).sizes["unit"] == 4
    with pytest.raises(MigvisError, match="needs a folder of photographs"):
        variant("compounds-photographs").simulate(tmp_path / "w.nwb")
    with pytest.raises(MigvisError, match="did you mean 'compounds'"):
        variant("compound")


def test_settings_of_a_session_that_do_not_go_together(tmp_path, call):
    path = tmp_path / "s.nwb"
    for wrong, message in (
        ({"population": "neurons"}, "population 'neurons' is unknown"),
        ({"features": "eyes"}, "features 'eyes' are unknown"),
    ):
        with pytest.raises(MigvisError, match=message):
            simulate_session(path, n_stimuli=8, n_repeats=1, **wrong)
    for words, message in (
        (("--respond-to", tmp_path), "expected both"),
        (("--sorted-again",), "found --sorted-again without --respond-to"),
        (("--respond-to", tmp_path, "--units-of", path, "--size", 32), "found --size with --respond-to"),
    ):
        code, _, errors = call("simulate", path, *words)
        assert code == 1 and message in errors
