"""Options that answer what a file does not say: asked for in one line, and then obeyed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from layouts import N_IMAGES, SHOWN, dicarlo_session, image_folder, index_series, picture

from nwb_migvis.read import read_session


def inspected(call, *arguments):
    code, printed, errors = call("inspect", *arguments, "--json")
    assert (code, errors) == (0, "")
    return json.loads(printed)


def refused(call, *arguments):
    for verb in ("inspect", "run"):
        code, _, errors = call(verb, *arguments)
        assert code == 1
        assert len(errors.strip().splitlines()) == 1
    return errors


def test_index_base(tmp_path, call):
    path = index_series(tmp_path / "a.nwb", index=[k + 1 for k in SHOWN]).path
    assert "--index-base" in refused(call, path)
    assert inspected(call, path, "--index-base", 1)["n_blank"] == 0
    assert inspected(call, path, "--index-base", 0)["n_blank"] == SHOWN.count(3)
    code, _, errors = call("inspect", path, "--index-base", 2)
    assert code == 2
    assert "--index-base" in errors


def test_merge_repeats(tmp_path, call):
    shown = [0, 1, 2, 3, 1, 0, 3, 2]
    path = index_series(tmp_path / "a.nwb", index=np.repeat(shown, 24), rate=60.0).path
    assert "--merge-repeats" in refused(call, path)
    merged = inspected(call, path, "--merge-repeats")
    assert (merged["n_presentations"], merged["n_merged"]) == (8, 8 * 23)
    apart = inspected(call, path, "--no-merge-repeats", "--window", 0, 0.01)
    assert (apart["n_presentations"], apart["n_merged"]) == (8 * 24, 0)


@pytest.mark.parametrize("window_s", [(70, 170), (0, 2.5), (0, 0.6)])
def test_allow_long_window(tmp_path, call, window_s):
    path = index_series(tmp_path / "a.nwb").path
    assert "--allow-long-window" in refused(call, path, "--window", *window_s)
    if window_s[1] < 3:
        found = inspected(call, path, "--window", *window_s, "--allow-long-window")
        assert found["window_s"] == list(window_s)


def test_the_window_is_in_seconds_by_default(tmp_path, call):
    assert inspected(call, index_series(tmp_path / "a.nwb").path)["window_s"] == [0.07, 0.17]


def test_images_by_a_csv(tmp_path, call):
    path = dicarlo_session(tmp_path / "a.nwb").path
    image_folder(tmp_path / "files", {f"x{k}.png": k for k in range(N_IMAGES)})
    table = tmp_path / "map.csv"
    rows = [f"im{k}.png,files/x{k}.png" for k in range(N_IMAGES)]
    table.write_text("\n".join(["stimulus,file", *rows]))
    assert inspected(call, path, "--images", table)["image_shape"] == [6, 5]
    np.testing.assert_array_equal(
        read_session(path, images=table)["image"].sel(stimulus="im2.png"), picture(2)
    )
    table.write_text("\n".join(["stimulus,file", *rows[:3], "im3.png,files/gone.png"]))
    assert "gone.png" in refused(call, path, "--images", table)
    table.write_text("\n".join(["stimulus,path", *rows]))
    assert "has no column 'file'" in refused(call, path, "--images", table)
