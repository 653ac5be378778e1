"""Renders of the solids: geometry against closed forms, and every factor visible."""

import numpy as np
import pandas as pd
import pytest

from nwb_migvis.errors import MigvisError
from nwb_migvis.simulate.render import FACTORS, RANGES, draw_factors, render_stimuli
from nwb_migvis.simulate.solids import CATEGORIES, Category, Part

NEUTRAL = {name: (low + high) / 2 for name, (low, high) in RANGES.items()}


def scene(**columns):
    return pd.DataFrame({**{k: [v] for k, v in NEUTRAL.items()}, "category": ["car"], **columns})


def silhouette(image, background):
    """Return which pixels of an image on a plain background the object covers."""
    return np.abs(image.astype(int) - int(background)) > 4


@pytest.fixture
def single_part(monkeypatch):
    """Make the category `face` a single white part, for geometry that is known exactly."""

    def use(kind, half):
        part = Part(kind, np.zeros((1, 3)), np.array([half], dtype=float), (0.0, 0.0, 0.0), 1.0)
        monkeypatch.setitem(CATEGORIES, "face", Category(lambda a, b: [part], 0.0, 0.0, 1.0))

    return use


def covered(**columns):
    """Return the pixels that a convex solid covers, those of the background's gray on it included."""
    image = render_stimuli(scene(category="face", **columns), size_px=128, background="plain")[0]
    mask = silhouette(image, image[0, 0])
    return np.logical_or.accumulate(mask, axis=1) & np.logical_or.accumulate(mask[:, ::-1], axis=1)[:, ::-1]


def test_an_ellipsoid_covers_the_area_of_its_projection(single_part):
    single_part("ellipsoid", (1.0, 0.5, 0.8))
    assert covered(size=0.8).mean() == pytest.approx(np.pi * 0.8 * 0.4 / 4, rel=0.03)
    turned = np.hypot(np.cos(np.pi / 6), 0.8 * np.sin(np.pi / 6))
    assert covered(size=0.8, rotation_y=30.0).mean() == pytest.approx(
        np.pi * 0.8 * turned * 0.4 / 4, rel=0.03
    )


def test_a_box_covers_the_area_of_its_projection(single_part):
    single_part("box", (0.6, 0.4, 0.5))
    assert covered(size=1.0).mean() == pytest.approx(0.6 * 0.4, rel=0.04)
    width = 0.6 * np.cos(np.pi / 6) + 0.5 * np.sin(np.pi / 6)
    assert covered(size=1.0, rotation_y=30.0).mean() == pytest.approx(width * 0.4, rel=0.04)


def test_rotations_turn_the_way_the_documentation_says(single_part):
    single_part("box", (0.8, 0.1, 0.1))
    rows, columns = np.nonzero(covered(size=1.0, rotation_z=30.0))
    slope = np.polyfit(columns, -rows, 1)[0]
    assert slope == pytest.approx(np.tan(np.pi / 6), abs=0.05)


def test_the_front_of_a_solid_hides_its_back():
    front, back = (
        render_stimuli(scene(category="face", rotation_y=angle), size_px=64, background="plain")[0]
        for angle in (0.0, 180.0)
    )
    middle = np.s_[24:32, 26:38]
    assert front[middle].mean() > 120
    assert back[middle].mean() < 40


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_factor_changes_pixels(category):
    low, high = (
        [scene(category=category, **{name: bounds[i]}) for name, bounds in RANGES.items()] for i in (0, 1)
    )
    images = render_stimuli(pd.concat([*low, *high]), size_px=32, background="plain").astype(int)
    changed = (np.abs(images[: len(RANGES)] - images[len(RANGES) :]) > 20).mean((1, 2))
    assert dict(zip(RANGES, changed > 0.015, strict=True)) == dict.fromkeys(RANGES, True)


@pytest.mark.parametrize("category", CATEGORIES)
def test_position_moves_the_object_right_and_up_by_half_widths(category):
    places = [(0.0, 0.0), (0.25, 0.0), (0.0, 0.25)]
    scenes = [scene(category=category, size=0.5, position_x=x, position_y=y) for x, y in places]
    images = render_stimuli(pd.concat(scenes), size_px=64, background="plain")
    centres = [np.argwhere(silhouette(image, image[0, 0])).mean(0) for image in images]
    np.testing.assert_allclose(centres[1] - centres[0], [0, 8], atol=0.7)
    np.testing.assert_allclose(centres[2] - centres[0], [-8, 0], atol=0.7)


@pytest.mark.parametrize("category", CATEGORIES)
def test_objects_are_large_and_stay_on_the_canvas(category):
    factors = draw_factors(400, seed=5).query("category == @category")
    images = render_stimuli(factors, size_px=32, background="plain")
    masks = silhouette(images, images[0, 0, 0])
    assert np.median(masks.any(1).mean(1)) > 0.45
    border = np.concatenate([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], axis=1)
    assert border.mean() < 0.05


def test_draws_are_balanced_within_range_and_reproducible():
    factors = draw_factors(800, seed=3)
    assert list(factors) == list(FACTORS)
    assert (factors["category"].value_counts() == 100).all()
    for name, (low, high) in RANGES.items():
        assert low <= factors[name].min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < factors[name].max() <= high
    assert factors.drop(columns="category").corr().abs().to_numpy()[np.triu_indices(8, 1)].max() < 0.15
    pd.testing.assert_frame_equal(factors, draw_factors(800, seed=3))
    assert not factors.equals(draw_factors(800, seed=4))


def test_an_image_depends_neither_on_its_neighbours_nor_on_threads():
    factors = draw_factors(40, seed=1)
    images = render_stimuli(factors, seed=2)
    assert images.dtype == np.uint8
    assert images.shape == (40, 32, 32)
    np.testing.assert_array_equal(images, render_stimuli(factors, seed=2, n_threads=1))
    np.testing.assert_array_equal(images[:7], render_stimuli(factors[:7], seed=2))
    assert (images != render_stimuli(factors, seed=3)).any()


def test_a_larger_image_shows_the_same_scene():
    factors = draw_factors(8, seed=1)
    small = render_stimuli(factors, size_px=32).astype(float)
    large = render_stimuli(factors, size_px=64).astype(float).reshape(8, 32, 2, 32, 2).mean((2, 4))
    assert np.abs(small - large).mean() < 3


def test_a_plain_background_is_one_gray_and_a_textured_one_is_smooth():
    factors = scene(size=0.05)
    plain = render_stimuli(factors, size_px=64, background="plain")[0]
    textured = render_stimuli(factors, size_px=64)[0].astype(float)
    assert (plain == plain[0, 0]).mean() > 0.98
    assert textured.std() > 10
    assert np.diff(textured, axis=0).std() < 0.35 * textured.std()


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"category": ["dragon"]}, {}, "category 'dragon' is unknown"),
        ({}, {"background": "striped"}, "background 'striped' is unknown"),
        ({}, {"size_px": 4}, "4 px"),
    ],
)
def test_what_cannot_be_rendered_is_refused(change, settings, message):
    with pytest.raises(MigvisError, match=message):
        render_stimuli(scene(**change), **settings)
