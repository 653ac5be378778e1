"""What the file does not say of its indices is asked for."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from layouts import (
    N_IMAGES,
    SHOWN,
    WINDOW_S,
    add_intervals,
    check,
    deprecated_index_series,
    image_container,
    index_series,
    new_file,
    picture,
    start_times,
    write,
)

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import read_session

FROM_1 = [k + 1 for k in SHOWN]
NAMES = [f"pic{k}" for k in SHOWN]


def names_read(session):
    return session["stimulus"].values[session["stimulus_index"].values].tolist()


@pytest.mark.parametrize("index", [FROM_1, [1, 2, 3, 3, 2, 1], [1, 2, -1, 4, 2]])
def test_series_without_a_zero(tmp_path, index):
    path = index_series(tmp_path / "a.nwb", index=index).path
    with pytest.raises(MigvisError, match="--index-base"):
        read_session(path)
    assert names_read(read_session(path, index_base=1)) == [f"pic{k - 1}" for k in index if k > 0]
    expected = [f"pic{k}" for k in index if 0 <= k < N_IMAGES]
    assert names_read(read_session(path, index_base=0)) == expected


@pytest.mark.parametrize("column", ["image_index", "frame"])
def test_columns_without_a_zero(tmp_path, column):
    nwb = new_file()
    nwb.add_stimulus_template(image_container({f"pic{k}": picture(k) for k in range(N_IMAGES)}))
    add_intervals(nwb, "shows", start_times(), **{column: FROM_1})
    path = write(nwb, tmp_path / "a.nwb")
    with pytest.raises(MigvisError, match="holds 1 to 4 and never 0"):
        read_session(path)
    assert names_read(read_session(path, index_base=1)) == NAMES


def test_names_of_a_table_tell_where_indices_count_from(tmp_path):
    index = [1, 2, 3, 3, 2, 1]
    names = [f"pic{k}" for k in index]
    truth = index_series(tmp_path / "a.nwb", index=index, trials={"image_name": names})
    check(read_session(truth.path, window_s=WINDOW_S), truth)
    wrong = [f"pic{k - 1}" for k in index]
    path = index_series(tmp_path / "b.nwb", index=index, trials={"image_name": wrong}).path
    with pytest.raises(MigvisError, match="--index-base"):
        read_session(path)


@pytest.mark.parametrize("control", [[1, 0, 3, 2], [2, 1, 4, 3]])
def test_control_says_which_description_is_whose(tmp_path, control):
    truth = deprecated_index_series(tmp_path / "a.nwb", names=("im_a", "im_b", "im_c", "im_d"))
    with h5py.File(truth.path, "r+") as file:
        file["stimulus/templates/scenes/control"][:] = control
    order = "badc"
    reading = {}
    if min(control) == 1:
        with pytest.raises(MigvisError, match="control holds 1 to 4"):
            read_session(truth.path)
        reading = {"index_base": 1}
        with h5py.File(truth.path, "r+") as file:
            file["stimulus/presentation/scenes/data"][:] = FROM_1
    assert names_read(read_session(truth.path, **reading)) == [f"im_{order[k]}" for k in SHOWN]


@pytest.mark.parametrize(("rate_hz", "n_samples"), [(60.0, 24), (25.0, 8), (120.0, 3)])
def test_samples_of_the_screen(tmp_path, rate_hz, n_samples):
    shown = [0, 1, 2, 3, 1, 0, 3, 2]
    index = np.repeat(shown, n_samples)
    path = index_series(tmp_path / "a.nwb", index=index, rate=rate_hz).path
    with pytest.raises(MigvisError, match="--merge-repeats"):
        read_session(path)
    window_s = (0.0, 0.02)
    session = read_session(path, merge_repeats=True, window_s=window_s)
    assert names_read(session) == [f"pic{k}" for k in shown]
    np.testing.assert_allclose(session["start_time"], 1 + np.arange(len(shown)) * n_samples / rate_hz)
    assert session.attrs["n_merged"] == len(shown) * (n_samples - 1)
    every = read_session(path, merge_repeats=False, window_s=window_s, allow_long_window=True)
    assert every.sizes["presentation"] == len(index)


def test_nothing_to_merge(tmp_path):
    with pytest.raises(MigvisError, match="nothing to merge"):
        read_session(index_series(tmp_path / "a.nwb").path, merge_repeats=True)
