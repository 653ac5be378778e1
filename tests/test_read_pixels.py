"""Pixels are read when asked for, only those, and become uint8 by the stated rules."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from layouts import N_IMAGES, dicarlo_session, image_folder, index_series, picture
from PIL import Image

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import read_session
from nwb_migvis.read.pixels import DatasetPixels


def images_of(path: Path, pixels: dict[str, np.ndarray], **reading) -> np.ndarray:
    truth = index_series(path, pixels=pixels, index=list(range(len(pixels))))
    return read_session(truth.path, **reading)["image"].values


def stored(*arrays: np.ndarray) -> dict[str, np.ndarray]:
    return {f"pic{k}": np.asarray(data) for k, data in enumerate(arrays)}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 255], [7, 8]], np.uint8), [[0, 255], [7, 8]]),
        (np.array([[0, 65535], [257, 256 * 257 // 2]], np.uint16), [[0, 255], [1, 128]]),
        (np.array([[0, 255], [7, 8]], np.uint16), [[0, 255], [7, 8]]),
        (np.array([[0, 255], [7, 8]], np.int32), [[0, 255], [7, 8]]),
        (np.array([[0.0, 1.0], [0.5, 0.1]]), [[0, 255], [128, 26]]),
        (np.array([[0.0, 255.0], [7.4, 7.6]], np.float32), [[0, 255], [7, 8]]),
    ],
)
def test_values_become_uint8(tmp_path, values, expected):
    image = images_of(tmp_path / "a.nwb", stored(values))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[0], expected)


def test_one_rule_for_all_images_of_a_session(tmp_path):
    """A dark image is not stretched: the range is that of all images shown."""
    image = images_of(tmp_path / "a.nwb", stored(np.full((2, 2), 0.9), np.full((2, 2), 200.0)))
    np.testing.assert_array_equal(image[:, 0, 0], [1, 200])


@pytest.mark.parametrize("values", [np.full((2, 2), -1.0), np.full((2, 2), 256), np.full((2, 2), np.nan)])
def test_values_that_no_rule_covers(tmp_path, values):
    with pytest.raises(MigvisError, match="store the images as uint8"):
        images_of(tmp_path / "a.nwb", stored(values))


def test_transparent_pixels_show_mid_gray(tmp_path):
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, :3] = 200
    pixels[0, :, 3] = [255, 0, 128]
    image = images_of(tmp_path / "a.nwb", stored(pixels))
    assert image.shape == (1, 1, 3)  # all three channels are equal, which is gray
    np.testing.assert_array_equal(image[0, 0], [200, 128, round(200 * 128 / 255 + 128 * 127 / 255)])


def test_gray_among_colour_is_repeated(tmp_path):
    image = images_of(tmp_path / "a.nwb", stored(picture(0), picture(1, (6, 5, 3))))
    np.testing.assert_array_equal(image[0], np.repeat(picture(0)[..., None], 3, axis=2))
    np.testing.assert_array_equal(image[1], picture(1, (6, 5, 3)))


def test_equal_channels_are_gray_unless_one_image_has_colour(tmp_path):
    gray, colour = (np.repeat(picture(k)[..., None], 3, axis=2) for k in (0, 1))
    image = images_of(tmp_path / "a.nwb", stored(gray, gray[::-1], picture(2)))
    np.testing.assert_array_equal(image, [picture(0), picture(0)[::-1], picture(2)])
    np.testing.assert_array_equal(
        images_of(tmp_path / "b.nwb", stored(gray), resize_px=(3, 2))[0],
        Image.fromarray(picture(0)).resize((2, 3), Image.Resampling.BILINEAR),
    )
    colour[-1, -1, 2] += 1
    image = images_of(tmp_path / "c.nwb", stored(gray, colour))
    np.testing.assert_array_equal(image, [gray, colour])


def test_gray_photographs_stored_in_colour(tmp_path):
    truth = dicarlo_session(tmp_path / "a.nwb")
    (tmp_path / "images").mkdir()
    for k in range(N_IMAGES):
        Image.fromarray(picture(k, (16, 16))).convert("RGB").save(tmp_path / "images" / f"im{k}.jpg")
    session = read_session(truth.path, images=tmp_path / "images")
    assert session["image"].dims == ("stimulus", "y", "x")


def test_different_sizes_need_a_size(tmp_path):
    pixels = stored(picture(0), picture(1), picture(2, (12, 10)))
    with pytest.raises(
        MigvisError, match=r"2 sizes .*6 x 5 \(2, first 'pic0'\), 12 x 10 \(1, first 'pic2'\)"
    ):
        images_of(tmp_path / "a.nwb", pixels)
    image = images_of(tmp_path / "b.nwb", pixels, resize_px=(6, 5))
    assert image.shape == (3, 6, 5)
    np.testing.assert_array_equal(image[0], picture(0))
    small = np.asarray(Image.fromarray(picture(2, (12, 10))).resize((5, 6), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(image[2], small)


GRAY = Image.fromarray(np.full((6, 5), 77, np.uint8))
COLOUR = Image.fromarray(np.full((6, 5, 3), (77, 78, 79), np.uint8))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (GRAY, 77),
        (GRAY.convert("LA"), 77),
        (Image.new("1", (5, 6), 1), 255),
        (Image.fromarray(np.full((6, 5), 77 * 257, np.uint16)), 77),
        (COLOUR, (77, 78, 79)),
        (COLOUR.convert("RGBA"), (77, 78, 79)),
        (COLOUR.convert("P", palette=Image.Palette.ADAPTIVE), (77, 78, 79)),
        (Image.new("RGBA", (5, 6), (1, 2, 3, 0)), 128),
        (GRAY.convert("RGB"), 77),
        (GRAY.convert("RGBA"), 77),
    ],
    ids=["L", "LA", "1", "I;16", "RGB", "RGBA", "P", "transparent", "gray RGB", "gray RGBA"],
)
def test_modes_of_image_files(tmp_path, image, expected):
    truth = dicarlo_session(tmp_path / "a.nwb")
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(N_IMAGES):
        image.save(folder / f"im{k}.png")
    found = read_session(truth.path, images=folder)["image"].values
    np.testing.assert_array_equal(found, np.broadcast_to(expected, (N_IMAGES, 6, 5, *np.shape(expected))))


@pytest.mark.parametrize(
    "key",
    [
        (3,),
        (slice(1, 3),),
        ([3, 0, 0],),
        (slice(None, None, -1), slice(1, None, 2), [0, 4]),
        (2, 1, slice(None)),
        ([True, False, True, False], 3),
        (slice(0, 0),),
        (slice(None), slice(None), slice(None)),
    ],
)
def test_indexing_is_that_of_an_array(tmp_path, key):
    truth = index_series(tmp_path / "a.nwb")
    session = read_session(truth.path)
    whole = xr.DataArray(np.stack([picture(k) for k in range(N_IMAGES)]), dims=("stimulus", "y", "x"))
    np.testing.assert_array_equal(session["image"][key], whole[key])


def test_only_the_images_asked_for_are_read(tmp_path, monkeypatch):
    read = []
    original = DatasetPixels.read
    monkeypatch.setattr(
        DatasetPixels, "read", lambda self, files: read.append(self.dataset) or original(self, files)
    )
    truth = index_series(tmp_path / "a.nwb")
    session = read_session(truth.path)
    assert read == []
    session["image"].sel(stimulus=["pic3", "pic1"]).load()
    assert [name.rsplit("/", 1)[1] for name in read] == ["pic1", "pic3"]
    read.clear()
    colour = {f"pic{k}": picture(k, (6, 5, 3)) for k in range(N_IMAGES)}
    read_session(index_series(tmp_path / "colour.nwb", pixels=colour).path)
    assert len(read) == 1


def test_no_file_stays_open(tmp_path):
    truth = index_series(tmp_path / "a.nwb")
    session = read_session(truth.path)
    session["image"][1].load()
    with h5py.File(truth.path, "r+") as file:
        file["stimulus/templates/pictures/pic1"][:] = 0
    assert session["image"][1].values.sum() == 0


def test_a_session_can_be_copied_and_pickled(tmp_path):
    truth = index_series(tmp_path / "a.nwb")
    session = read_session(truth.path)
    for other in (copy.deepcopy(session), pickle.loads(pickle.dumps(session))):
        np.testing.assert_array_equal(other["image"][2], picture(2))


def test_pixels_that_went_away(tmp_path):
    truth = index_series(tmp_path / "a.nwb")
    session = read_session(truth.path)
    truth.path.unlink()
    with pytest.raises(MigvisError, match="can no longer be opened for its pixels"):
        session["image"][0].load()


def test_an_image_file_cut_short(tmp_path):
    truth = dicarlo_session(tmp_path / "a.nwb")
    folder = image_folder(tmp_path / "images", {f"im{k}.png": k for k in range(N_IMAGES)}, shape=(60, 50))
    whole = (folder / "im2.png").read_bytes()
    (folder / "im2.png").write_bytes(whole[: len(whole) // 2])
    session = read_session(truth.path, images=folder)
    assert session["image"][1].shape == (60, 50)
    with pytest.raises(MigvisError, match=r"im2\.png: the image is damaged"):
        session["image"][2].load()
