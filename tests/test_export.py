"""Results out of NWB hold the same numbers, names and pixels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from examples import WEIGHTS, example_results
from PIL import Image

from nwb_migvis import MigvisError
from nwb_migvis.results.gallery import edit_names
from nwb_migvis.store import write_results


@pytest.fixture
def results():
    analysis = xr.Dataset({"gain": (("unit", "fold"), np.arange(6.0).reshape(2, 3)), "n": 4})
    return dataclasses.replace(example_results(), analyses={"encoding": analysis})


def test_tables_are_written_in_long_form(results, tmp_path):
    written = {path.stem: pd.read_csv(path, keep_default_na=False) for path in results.to_tables(tmp_path)}
    assert written["groups"]["group"].tolist() == list(results.groups.index)
    latents = written["latents"]
    assert len(latents) == results.latents["mean"].size
    first = results.latents["stimulus"].values[0]
    mean = latents.loc[latents["stimulus"] == first, "mean"].to_numpy()
    np.testing.assert_allclose(mean, results.latents["mean"].values[0], rtol=1e-6)
    assert written["units"]["unit"].tolist() == results.units["unit"].values.tolist()
    assert len(written["units_by_unit_latent"]) == results.units["loading"].size
    assert len(written["selectivity_by_group_label_method_reader"]) == results.selectivity["transfer"].size
    assert written["labels"]["stimulus"].tolist() == results.labels["stimulus"].values.tolist()
    assert written["edits"]["source"].tolist() == results.synthesized["source"].values.tolist()
    assert written["analysis_encoding_by_unit_fold"]["gain"].tolist() == list(range(6))
    assert written["analysis_encoding"]["value"].astype(float).tolist() == [4]


@pytest.mark.parametrize("channels", [False, True])
def test_edits_are_images_whose_names_the_gallery_has(tmp_path, channels):
    results = example_results(channels=channels)
    images = results.to_images(tmp_path / "edits")
    table = pd.read_csv(tmp_path / "edits" / "edits.csv", keep_default_na=False)
    assert table["file"].tolist() == [path.name for path in images] == sorted(table["file"])
    for path, pixels in zip(images, results.synthesized["image"].values, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels)
    assert {f"{name}.png" for name in results.gallery["name"].values} <= set(table["file"])
    np.testing.assert_allclose(table["score_after"], results.synthesized["score_after"])


def test_names_say_how_an_edit_was_made():
    edits = example_results().synthesized
    strange = edits.assign_coords(group=("edit", ["a/b: c"] * 7), source=("edit", ["x" * 99] * 7))
    names = edit_names(strange, np.array([0, 6]))
    assert names[0] == f"000000_a_b_c_{'x' * 60}_to_image_11.png_0.90"
    assert names[1].endswith("_along_ones_+2_0.90")


def test_nothing_is_written_over(results, tmp_path):
    (tmp_path / "mine").write_text("mine")
    for write in (results.to_tables, results.to_images):
        with pytest.raises(MigvisError, match="expected a new or an empty folder"):
            write(tmp_path)
    with pytest.raises(MigvisError, match="made no edits"):
        example_results(edits=False).to_images(tmp_path / "none")


def test_a_netcdf_file_holds_the_tree(results, tmp_path):
    pytest.importorskip("h5netcdf", reason="h5netcdf writes netCDF")
    path = results.to_netcdf(tmp_path / "results.nc")
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        np.testing.assert_array_equal(tree["latents/mean"], results.latents["mean"])
        assert tree["analyses/encoding"].sizes == {"unit": 2, "fold": 3}
        assert tree.attrs["name"] == "migvis"
    with pytest.raises(MigvisError, match="exists already"):
        results.to_netcdf(path)


def test_without_a_library_for_netcdf_one_line_says_what_to_install(results, tmp_path, monkeypatch):
    monkeypatch.setattr("nwb_migvis.results.export.find_spec", lambda _: None)
    with pytest.raises(MigvisError, match=r"pip install 'nwb-migvis\[netcdf\]'"):
        results.to_netcdf(tmp_path / "results.nc")


def test_the_command_writes_tables_and_images(pristine, tmp_path, call):
    path = write_results(example_results(), source=pristine, out=tmp_path / "out.nwb", weights=WEIGHTS)
    code, printed, errors = call("export", path, tmp_path / "out")
    assert code == 0, errors
    assert "tables and 7 images" in printed
    assert (tmp_path / "out" / "edits" / "edits.csv").is_file()
