"""Real data: counts of recorded neurons in the layouts of the labs that recorded them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import read_session, read_sessions

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data are not at {DATA}")
pytestmark = needs_data

LAYOUTS = {
    "session_with_images": "index_series",
    "session_no_images": "dicarlo",
    "aggregated": "dicarlo_aggregated",
}


def session_file(name: str) -> Path:
    return DATA / "nwb_dicarlo_layout" / f"{name}.nwb"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    with zipfile.ZipFile(DATA / "v4_hvm" / "images_210325.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".jpg"):
                k = int(Path(name).stem.removeprefix("image")) - 1
                (folder / f"im{k}.png").write_bytes(archive.read(name))
    return folder


@pytest.mark.parametrize("name", LAYOUTS)
def test_counts_are_those_that_were_recorded(name, images):
    """Up to the order of repeats, which the file does not keep."""
    recorded = np.load(DATA / "v4_hvm" / "session_210325.npz")
    supplied = {} if name == "session_with_images" else {"images": images}
    session = read_session(session_file(name), window_s=(0.05, 0.15), **supplied)
    assert session.attrs["layout"] == LAYOUTS[name]
    assert session["image"].shape[:3] == (640, 112, 112)
    counts, index = session["spike_count"].values, session["stimulus_index"].values
    assert counts.shape == (4840, 50)
    for s, stimulus in enumerate(session["stimulus"].values):
        repeats = recorded["counts"][:, int(stimulus.removeprefix("im").removesuffix(".png"))].T
        expected = repeats[(repeats >= 0).all(axis=1)]
        assert sorted(map(tuple, counts[index == s])) == sorted(map(tuple, expected))


def test_images_of_the_folder_are_those_of_the_file(images):
    in_file = read_session(session_file("session_with_images"))
    in_folder = read_session(session_file("session_no_images"), images=images)
    assert in_folder["stimulus"].values.tolist() == in_file["stimulus"].values.tolist()
    some = [0, 77, 639]
    gray = in_folder["image"][some].values
    gray = gray if gray.ndim == 3 else gray[..., 0]
    np.testing.assert_array_equal(gray, in_file["image"][some].values)


def test_sessions_agree_on_their_stimuli():
    sessions = read_sessions(
        [session_file("session_no_images"), session_file("aggregated")], stimulus="stimulus_filename"
    )
    np.testing.assert_array_equal(sessions[0]["stimulus"], sessions[1]["stimulus"])


def test_pseudopopulation_by_its_stimulus_column():
    path = DATA / "it_zhang_desimone" / "zd_it_pseudopopulation.nwb"
    session = read_session(path, stimulus="stimulus_ID_position")
    assert dict(session.sizes) == {"presentation": 399, "unit": 132, "stimulus": 21}
    assert set(session["stimulus_position"].values) == {"lower", "middle", "upper"}
    assert len(set(session["stimulus_id"].values)) == 7
    with pytest.raises(MigvisError, match="stimulus=COLUMN"):
        read_session(path)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("sub_anm*.nwb", "no stimuli"),
        ("A8604*.nwb", "no stimuli"),
        ("pynwb_backcompat_1*.nwb", "no Units table"),
        ("pynwb_backcompat_2*.nwb", "no Units table"),
    ],
)
def test_files_of_other_kinds_are_refused_in_one_line(pattern, message):
    (path,) = (DATA / "nwb_generic").glob(pattern)
    with pytest.raises(MigvisError, match=message) as error:
        read_session(path)
    assert "\n" not in str(error.value)
