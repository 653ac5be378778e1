from functools import partial

import numpy as np
import pytest
import torch

from nwb_migvis.evidence.appearance import frechet_distance
from nwb_migvis.evidence.labels import label_score
from nwb_migvis.evidence.readers import convolutional as conv_reader
from nwb_migvis.evidence.readers.kernel import edge_features
from nwb_migvis.evidence.readers.pretrained import fit_pretrained_reader
from nwb_migvis.evidence.readers.protocol import Examples, fit_readers, reader_scores
from nwb_migvis.evidence.readers.resolution import SIZE_PX, reduced
from nwb_migvis.labels import Label, LabelCode, as_labels, code_labels, select
from nwb_migvis.registry import READERS

SHAPES = ("bar", "disk", "ring")


def toy_images(n, *, size=16, seed=0, channels=0):
    """Bars, disks and rings at known places on noise; bars are turned by `angle` (degrees, period 180)."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0.3, 0.7, size=(2, n)) * size
    angle = rng.uniform(0, 180, size=n)
    shape = rng.integers(0, 3, size=n)
    rows, columns = np.mgrid[:size, :size] + 0.5
    dx, dy = columns - x[:, None, None], rows - y[:, None, None]
    turn = np.deg2rad(angle)[:, None, None]
    along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    distance = np.hypot(dx, dy)
    drawn = np.where(
        shape[:, None, None] == 0,
        (np.abs(across) < size / 12) & (np.abs(along) < size / 3),
        np.where(shape[:, None, None] == 1, distance < size / 5, np.abs(distance - size / 5) < size / 14),
    )
    images = np.clip(80 + 100 * drawn + 10 * rng.normal(size=drawn.shape), 0, 255).astype(np.uint8)
    if channels:
        images = np.repeat(images[..., None], channels, axis=-1)
    labels = {
        "x": x,
        "angle": np.where(shape == 0, angle, np.nan),
        "shape": np.array(SHAPES, dtype=object)[shape],
        "flat": np.ones(n),
    }
    return images, labels


def fit(images, labels, *, n_train, **settings):
    labels = as_labels(labels, circular={"angle": 180.0})
    train, validation = (
        Examples(images[part], select(labels, part)) for part in (slice(n_train), slice(n_train, None))
    )
    return fit_readers(train, validation, **settings)


def scores_of(reader, images, labels):
    return reader_scores(reader, Examples(images, as_labels(labels)))


@pytest.fixture(scope="module")
def readers():
    return fit(*toy_images(1400), n_train=1200, seed=0, n_steps=120)


def test_each_kind_reads_new_images(readers):
    assert [reader.kind for reader in readers] == ["conv", "kernel"]
    images, labels = toy_images(300, seed=1)
    for reader in readers:
        scores = scores_of(reader, images, labels)
        assert scores["x"] > 0.85
        assert scores["angle"] > 0.85
        assert scores["shape"] > 0.9
        assert np.isnan(scores["flat"])


def test_readings_are_in_the_unit_of_the_label(readers):
    images, labels = toy_images(300, seed=2)
    for reader in readers:
        readings = reader.read(images)
        assert set(readings) == {"x", "angle", "shape"}
        assert readings["x"].shape == (300,)
        assert np.abs(readings["x"] - labels["x"]).mean() < 0.6
        assert readings["angle"].shape == (300, 2)
        read_angle = np.rad2deg(np.arctan2(readings["angle"][:, 1], readings["angle"][:, 0])) / 2
        off = (read_angle - labels["angle"] + 90) % 180 - 90
        assert np.nanmedian(np.abs(off)) < 10
        assert readings["shape"].shape == (300, 3)
        np.testing.assert_allclose(readings["shape"].sum(axis=1), 1, atol=1e-5)
        assert (readings["shape"] >= 0).all()


def test_a_shuffled_label_cannot_be_read():
    images, labels = toy_images(500, seed=3)
    labels["x"] = np.random.default_rng(0).permutation(labels["x"])
    labels["shape"] = np.random.default_rng(1).permutation(labels["shape"])
    new_images, new_labels = toy_images(300, seed=4)
    for reader in fit(images, labels, n_train=400, seed=0, n_steps=40):
        scores = scores_of(reader, new_images, new_labels)
        assert scores["x"] < 0.2 and scores["shape"] < 0.2


def test_the_network_stops_where_validation_is_best(monkeypatch):
    images, labels = toy_images(164, seed=13)
    labels = {"x": np.random.default_rng(0).normal(size=164)}  # all there is to learn is by heart

    def validation_error(every):
        monkeypatch.setattr(conv_reader, "VALIDATE_EVERY", every)
        (reader,) = fit(images, labels, n_train=64, seed=0, n_steps=40, kinds=("conv",))
        return ((reader.read(images[64:])["x"] - labels["x"][64:]) ** 2).mean()

    assert validation_error(2) < 0.99 * validation_error(1000)


def test_the_kernel_does_not_learn_noise_by_heart():
    images, _ = toy_images(500, seed=14)
    labels = {"x": np.random.default_rng(0).normal(size=500)}
    (reader,) = fit(images, labels, n_train=400, seed=0, kinds=("kernel",))
    assert reader.read(images[:400])["x"].std() < 0.7


def test_the_same_seed_gives_the_same_reader_and_leaves_torch_alone():
    images, labels = toy_images(300, seed=5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (fit(images, labels, n_train=250, seed=seed, n_steps=8) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.read(images)["x"], b.read(images)["x"])
    assert not np.array_equal(first[0].read(images)["x"], other[0].read(images)["x"])


def test_reading_does_not_depend_on_the_batch():
    images, labels = toy_images(1300, seed=6)
    for reader in fit(images, labels, n_train=200, seed=0, n_steps=8):
        whole = reader.read(images)
        np.testing.assert_allclose(reader.read(images[1250:])["x"], whole["x"][1250:], rtol=1e-3)


@pytest.mark.parametrize(("size", "channels"), [(15, 3), (70, 0)])
def test_odd_large_and_coloured_images_are_read(size, channels):
    images, labels = toy_images(400, size=size, channels=channels, seed=7)
    for reader in fit(images, labels, n_train=300, seed=0, n_steps=40):
        assert scores_of(reader, images[300:], {"x": labels["x"][300:]})["x"] > 0.3


def test_missing_labels_are_left_out():
    images, labels = toy_images(700, seed=8)
    hidden = np.random.default_rng(0).random(700) < 0.5
    labels["x"] = np.where(hidden, np.nan, labels["x"])
    labels["shape"] = np.where(hidden, "", labels["shape"])
    new_images, new_labels = toy_images(200, seed=9)
    (reader,) = fit(images, labels, n_train=600, seed=0, kinds=("kernel",))
    scores = scores_of(reader, new_images, new_labels)
    assert scores["x"] > 0.7 and scores["shape"] > 0.7
    assert np.isfinite(
        fit(images, labels, n_train=600, seed=0, n_steps=5, kinds=("conv",))[0].read(images)["x"]
    ).all()


def test_nothing_to_read():
    images, labels = toy_images(60, seed=10)
    assert fit(images, {"flat": labels["flat"]}, n_train=50, seed=0) == []
    with pytest.raises(ValueError, match="'tree'"):
        fit(images, labels, n_train=50, seed=0, kinds=("tree",))


def test_a_reader_of_another_kind_is_trained_by_name(monkeypatch):
    class Constant:
        kind = "constant"

        def __init__(self, train, validation, *, codes, seed, n_steps, checkpoints):
            self.codes, self.trained_on = codes, (len(train), len(validation), seed, n_steps)
            self.mean = np.nanmean(train.encode(codes)["x"])

        def read(self, images):
            return {"x": np.full(len(images), self.mean)}

        def features(self, images):
            return np.zeros((len(images), 1))

    images, labels = toy_images(60, seed=15)
    monkeypatch.setattr(READERS, "_registered", {"constant": Constant})
    (reader,) = fit(images, {"x": labels["x"]}, n_train=50, seed=3, n_steps=7, kinds=("constant",))
    assert reader.trained_on == (50, 10, 3, 7)
    assert [code.name for code in reader.codes] == ["x"] and reader.mean == pytest.approx(0)


def test_edge_features_tell_directions_apart():
    ramp = np.tile(np.arange(0, 160, 10, dtype=np.uint8), (16, 1))
    views = np.stack([ramp, ramp[:, ::-1], ramp.T, ramp.T[::-1]])
    energy = edge_features(views).reshape(4, 8, -1).sum(axis=2)
    # Brighter to the right, to the left, downwards, upwards: directions 0, 4, 2 and 6 of 8.
    assert energy.argmax(axis=1).tolist() == [0, 4, 2, 6]
    np.testing.assert_allclose(energy.max(axis=1) / energy.sum(axis=1), 1, atol=1e-6)
    assert (edge_features(np.full((1, 16, 16), 90, np.uint8)) == 0).all()


def test_label_codes_and_scores_by_hand():
    labels = {
        "size": np.array([1.0, 3.0, np.nan]),
        "angle": np.array([0.0, 90.0, 180.0]),
        "kind": np.array(["b", "a", ""], dtype=object),
        "same": np.array(["b", "b", ""], dtype=object),
    }
    size, angle, kind = code_labels(as_labels(labels, circular={"angle": 360.0}))
    assert (size.mean, size.scale, kind.classes) == (2.0, 1.0, ("a", "b"))
    np.testing.assert_array_equal(size.encode(labels["size"]), [[-1], [1], [np.nan]])
    np.testing.assert_array_equal(size.readings(labels["size"]), labels["size"])
    np.testing.assert_allclose(angle.encode(labels["angle"]), [[1, 0], [0, 1], [-1, 0]], atol=1e-12)
    np.testing.assert_array_equal(kind.encode(labels["kind"]), [[0, 1], [1, 0], [np.nan, np.nan]])
    assert label_score(size, np.array([1.5, 2.5, 9.0]), labels["size"]) == pytest.approx(0.75)
    probabilities = np.eye(3)[[0, 0, 1, 0, 2, 0]]
    truth = np.array(["a", "a", "a", "b", "c", ""], dtype=object)
    three = LabelCode("kind", classes=("a", "b", "c"))
    balanced = (2 / 3 + 0 + 1) / 3
    assert label_score(three, probabilities, truth) == pytest.approx((balanced - 1 / 3) / (1 - 1 / 3))
    assert np.isnan(label_score(three, probabilities[:2], truth[:2]))


def test_features_tell_real_images_from_noise(readers):
    real, also_real = toy_images(200, seed=11)[0], toy_images(200, seed=12)[0]
    noise = np.random.default_rng(0).integers(0, 256, size=real.shape, dtype=np.uint8)
    for reader in readers:
        features = [reader.features(images) for images in (real, also_real, noise)]
        assert features[0].ndim == 2 and len(features[0]) == 200
        assert frechet_distance(features[0], features[2]) > 3 * frechet_distance(features[0], features[1])


@pytest.mark.parametrize("side", [(64, 64), (48, 40), (33, 100)])
def test_large_images_are_averaged_over_areas_that_cover_them(side):
    images = np.random.default_rng(0).integers(0, 256, (2, *side, 3), dtype=np.uint8)
    found = reduced(images)
    assert max(found.shape[1:3]) == SIZE_PX
    x = torch.from_numpy(images).float().permute(0, 3, 1, 2) / 255
    expected = torch.nn.functional.adaptive_avg_pool2d(x, found.shape[1:3]).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    gray = images[:, :20, :20, 0]
    np.testing.assert_array_equal(reduced(gray)[..., 0], gray.astype(np.float32) / 255)


class _Corner:
    """Describes images by the mean of each quarter: a network that knows enough."""

    kind = "corner"

    def __call__(self, images):
        quarters = images.reshape(len(images), 2, 8, 2, 8).mean(axis=(2, 4))
        return quarters.reshape(len(images), 4) / 255


def test_a_reader_on_a_network_reads_numbers_and_categories():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 16, 16)).astype(np.uint8)
    level = rng.uniform(0, 200, 120)
    images[:, :8, :8] = level[:, None, None]
    labels = {
        "level": Label.of("level", np.where(np.arange(120) % 7 == 0, np.nan, level)),
        "side": Label.of("side", np.where(level > 100, "bright", "dark").astype(object)),
    }
    parts = [Examples(images[rows], select(labels, rows)) for rows in (np.s_[:60], np.s_[60:90], np.s_[90:])]
    (reader,) = fit_readers(
        *parts[:2], seed=0, kinds=["corner"], further={"corner": partial(fit_pretrained_reader, _Corner())}
    )
    scores = reader_scores(reader, parts[2])
    assert reader.kind == "corner" and scores["level"] > 0.99 and scores["side"] > 0.6
    assert reader.features(images).shape == (120, 4)
