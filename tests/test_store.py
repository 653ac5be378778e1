"""Results that go into a file come out of it, with this package and without."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pynwb
import pytest
import xarray as xr
from examples import STIMULI, UNIT_IDS, WEIGHTS, example_results, write_session
from pynwb import NWBHDF5IO

import nwb_migvis
from nwb_migvis import MigvisError, Results, read_results
from nwb_migvis.results import no_decoding, no_edits, no_selectivity
from nwb_migvis.results.analyses import canonical_analysis
from nwb_migvis.results.gallery import N_IMAGES, gallery_of
from nwb_migvis.store import (
    list_runs,
    read_sidecar,
    read_weights,
    validate_file,
    write_results,
    write_sidecar,
)
from nwb_migvis.store.canonical import canonical, differences
from nwb_migvis.store.encode import encode


def earlier_results(name: str) -> Results:
    """Results as version 0.1.0 made them, without what came later."""
    results = example_results(name=name)
    bounds = ("si_transfer_low", "si_transfer_high", "si_strict_low", "si_strict_high")
    return dataclasses.replace(
        results,
        groups=results.groups[[c for c in results.groups if not c.endswith(("_low", "_high"))]],
        synthesized=results.synthesized.drop_vars("support"),
        selectivity=results.selectivity.drop_vars(["q_value", *bounds]),
        decoding=results.decoding.drop_vars(["mig_low", "mig_high"]),
    )


def analysed_results(name: str) -> Results:
    """Results with further analyses: several axes, all kinds of values, names that no column can have."""
    gain = np.random.default_rng(0).random((3, 2), np.float32)
    analysis = xr.Dataset(
        {
            "gain": (("stimulus", "unit"), gain, {"units": "nats"}),
            "fits": ("unit", [True, False]),
            "n/images": ((), 3),
            "columns": ("stimulus", ["p", "", "ü"]),
        },
        coords={"stimulus": [0.5, np.nan, 2.0], "kind": ("stimulus", ["u", "v", "w"]), "unit": [3, 5]},
        attrs={"description": "How well each unit is predicted.", "folds": [1, 2]},
    )
    one = xr.Dataset({"spread": ("group", [0.5, 1.5])}, coords={"group": ["pose", "category"]})
    results = example_results(name=name)
    return dataclasses.replace(results, analyses={"encoding check": analysis, "spread": one})


VARIANTS = {
    "analyses": analysed_results("analyses"),
    "earlier": earlier_results("earlier"),
    "all": example_results(name="all"),
    "colour and maps": example_results(name="colour and maps", channels=True, maps=True),
    "no stability": example_results(name="no stability", stability=False),
    "no edits": example_results(name="no edits", edits=False),
    "no labels": example_results(name="no labels", labels=False),
    "neither": example_results(name="neither", edits=False, labels=False),
    "no evidence": example_results(name="no evidence", evidence=False),
    "other units": example_results(name="other units", units=np.array([100, 101])),
}


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    return write_session(tmp_path_factory.mktemp("session") / "session.nwb")


@pytest.fixture(scope="module")
def written(session, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "results.nwb"
    return write_results(example_results(maps=True), source=session, out=out, weights=WEIGHTS)


@pytest.fixture(scope="module")
def variants(session, tmp_path_factory) -> Path:
    """One file with a run of every kind."""
    out = tmp_path_factory.mktemp("variants") / "variants.nwb"
    with NWBHDF5IO(session, "r") as reading:
        nwbfile = reading.read()
        for results in VARIANTS.values():
            nwbfile.add_analysis(encode(canonical(results), nwbfile=nwbfile, weights={}))
        nwbfile.set_modified()
        with NWBHDF5IO(out, "w") as writing:
            writing.export(src_io=reading, nwbfile=nwbfile)
    return out


@pytest.mark.parametrize("name", VARIANTS)
def test_every_attribute_comes_back(variants, name):
    given, found = VARIANTS[name], read_results(variants, name)
    assert found.name == name
    pd.testing.assert_frame_equal(found.groups, given.groups)
    for part in ("latents", "units", "synthesized", "selectivity", "decoding", "labels"):
        xr.testing.assert_identical(getattr(found, part), getattr(given, part))
    assert found.provenance == given.provenance
    assert found.analyses.keys() == given.analyses.keys()
    for analysis, data in given.analyses.items():
        xr.testing.assert_identical(found.analyses[analysis], data)
    for part, variable, dtype in (
        ("latents", "mean", np.float32),
        ("units", "loading", np.float64),
        ("synthesized", "image", np.uint8),
        ("synthesized", "seed", np.int64),
    ):
        assert getattr(found, part)[variable].dtype == dtype
    assert ("stability" in found.groups) == (name != "no stability")


def test_a_file_with_every_kind_of_run_is_valid(variants):
    assert list_runs(variants) == sorted(VARIANTS)
    assert pynwb.validate(path=variants) == []


def test_units_that_the_file_does_not_have_get_no_rows(variants):
    with h5py.File(variants) as file:
        found = {name: "unit_row" in file[f"analysis/{name}/unit_loadings"] for name in VARIANTS}
    assert found == {name: name != "other units" for name in VARIANTS}


def test_the_file_goes_beside_the_source_and_the_source_stays(session):
    before = session.read_bytes()
    out = write_results(example_results(), source=session)
    assert out == session.with_name("session_migvis.nwb")
    assert session.read_bytes() == before
    assert {p.name for p in session.parent.iterdir()} == {"session.nwb", "session_migvis.nwb"}


def test_software_that_made_the_session_is_named_before_ours(session, tmp_path):
    source = tmp_path / "converted.nwb"
    rows = [["neuroconv", "0.7.0"], ["nwb-migvis", "0.0.1"]]
    with NWBHDF5IO(session, "r") as reading, NWBHDF5IO(source, "w") as writing:
        nwbfile = reading.read()
        nwbfile.was_generated_by = rows
        nwbfile.set_modified()
        writing.export(src_io=reading, nwbfile=nwbfile)
    out = tmp_path / "out.nwb"
    write_results(example_results(), source=source, out=out, weights=WEIGHTS)
    write_results(example_results(name="second"), source=out, in_place=True, backup=False)
    with h5py.File(out) as file:
        named = file["general/was_generated_by"].asstr()[()].tolist()
    assert named == [*rows, ["nwb-migvis", nwb_migvis.__version__]]


def test_files_are_valid_by_an_io_that_is_open(session, written):
    for path in (session, written):
        with NWBHDF5IO(path, "r") as io:
            assert pynwb.validate(io=io) == []


def test_the_gallery_shows_edits_of_the_table_in_order(written):
    results = read_results(written)
    gallery = results.gallery
    with NWBHDF5IO(written, "r") as io:
        stored = io.read().analysis["migvis"].gallery
        images = list(stored.order_of_images.data[:])
        assert [image.name for image in images] == gallery["name"].values.tolist() == sorted(stored.images)
        for image, row in zip(images, gallery["row"].values, strict=True):
            np.testing.assert_array_equal(image.data[:], results.synthesized["image"].values[row])
            edit = results.synthesized.isel(edit=row)
            assert image.name.startswith(f"{row:06d}_{edit['group'].item()}_{edit['source'].item()}_")
            assert image.name.endswith(f"_{edit['strength'].item():.2f}")


def test_a_gallery_is_drawn_by_the_seed_and_holds_every_group():
    edits = example_results().synthesized
    many = xr.concat([edits] * 30, dim="edit").assign_coords(method=("edit", ["pmi", "none"] * 105))
    one, same, other = (gallery_of(many, {"config": {"seed": seed}}) for seed in (0, 0, 1))
    assert one.sizes["edit"] == N_IMAGES and len(set(one["name"].values)) == N_IMAGES
    assert one.identical(same) and not np.array_equal(one["row"], other["row"])
    assert set(one["method"].values) == {"pmi"}
    counts = np.unique(one["group"].values, return_counts=True)[1]
    assert len(counts) == 3 and counts.max() - counts.min() <= 1
    assert gallery_of(many.isel(edit=slice(0)), {}).sizes["edit"] == 0


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (None, "gave a NoneType"),
        (xr.Dataset(), "gave no variables"),
        (xr.Dataset({"t": ("x", np.array(["2026-01-01"], "datetime64[ns]"))}), "datetime64.*numbers or text"),
        (xr.Dataset({"z": ("x", np.empty(0))}), "has 0 values"),
        (xr.Dataset({"z": 1}, attrs={"fit": object()}), "an attribute that JSON cannot hold"),
    ],
)
def test_an_analysis_that_no_table_can_hold_is_refused(dataset, message):
    with pytest.raises(MigvisError, match=message):
        canonical_analysis("spread", dataset)
    with pytest.raises(MigvisError, match="a name that no table can have"):
        canonical_analysis("a/b", xr.Dataset({"z": 1}))


def test_a_sidecar_keeps_analyses(session, tmp_path):
    results = canonical(analysed_results("migvis"))
    path = write_sidecar(results, WEIGHTS, source=session, beside=tmp_path / "out.nwb")
    assert differences(read_sidecar(path)[0], results) == []


def test_parts_without_rows_become_the_empty_datasets():
    given = example_results()
    given = dataclasses.replace(
        given,
        selectivity=given.selectivity.isel(label=slice(0)),
        decoding=given.decoding.isel(label=slice(0)),
        synthesized=given.synthesized.isel(edit=slice(0)),
    )
    found = canonical(given)
    xr.testing.assert_identical(found.selectivity, no_selectivity())
    xr.testing.assert_identical(found.synthesized, no_edits())
    xr.testing.assert_identical(found.decoding, no_decoding())


def test_provenance_becomes_plain_json():
    odd = {"a": np.float32(0.5), "b": (1, np.int64(2)), "c": float("nan"), "d": Path("x"), 5: np.ones(2)}
    found = canonical(dataclasses.replace(example_results(), provenance=odd))
    assert found.provenance == {"a": 0.5, "b": [1, 2], "c": None, "d": "x", "5": [1.0, 1.0]}


def test_runs_stand_side_by_side(session, tmp_path):
    out = tmp_path / "out.nwb"
    first, second = example_results(name="migvis"), example_results(name="second run", seed=1, edits=False)
    write_results(first, source=session, out=out, weights=WEIGHTS)
    write_results(second, source=out, in_place=True, backup=False)
    assert list_runs(out) == ["migvis", "second run"]
    with pytest.raises(MigvisError, match=r"name one of migvis, second run with name= \(--name\)"):
        read_results(out)
    for given in (first, second):
        xr.testing.assert_identical(read_results(out, given.name).latents, given.latents)
    assert read_weights(out, "migvis") == WEIGHTS
    assert read_weights(out, "second run") == {}


def test_a_run_is_replaced_only_when_asked(session, tmp_path):
    out = tmp_path / "out.nwb"
    write_results(example_results(), source=session, out=out, weights=WEIGHTS)
    again = example_results(seed=1, edits=False)
    with pytest.raises(MigvisError, match=r"found a run 'migvis' already \(runs: migvis\)"):
        write_results(again, source=out, in_place=True)
    write_results(again, source=out, in_place=True, overwrite=True, weights={})
    found = read_results(out)
    assert list_runs(out) == ["migvis"]
    assert found.synthesized.sizes["edit"] == 0
    xr.testing.assert_identical(found.latents, again.latents)
    assert read_weights(out) == {}


def test_damaged_weights_are_not_returned(written, tmp_path):
    out = tmp_path / "out.nwb"
    out.write_bytes(written.read_bytes())
    with h5py.File(out, "r+") as file:
        file["analysis/migvis/model/critic"][3] = 255
    with pytest.raises(MigvisError, match="/analysis/migvis/model/critic has the sha256"):
        read_weights(out)


def test_weights_of_another_digest_than_recorded_are_refused(session, tmp_path):
    with pytest.raises(ValueError, match=r"weights\.vae"):
        write_results(example_results(), source=session, out=tmp_path / "x.nwb", weights={"vae": b"other"})
    assert not list(tmp_path.iterdir())


def test_reading_what_holds_no_results_says_so(session, tmp_path):
    with pytest.raises(MigvisError, match="found no results"):
        read_results(session)
    with pytest.raises(MigvisError, match="found nothing; expected an NWB file"):
        read_results(tmp_path / "absent.nwb")
    (tmp_path / "text.nwb").write_text("not HDF5")
    with pytest.raises(MigvisError, match="is not an HDF5 file"):
        read_results(tmp_path / "text.nwb")
    (tmp_path / "half.nwb").write_bytes(session.read_bytes()[:5000])
    with pytest.raises(MigvisError, match="truncated"):
        read_results(tmp_path / "half.nwb")


def test_a_bit_flip_anywhere_is_a_result_or_one_line(written, tmp_path):
    whole = written.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(40):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 30)] ^= np.uint8(1) << rng.integers(0, 8, 30).astype(np.uint8)
        (tmp_path / "damaged.nwb").write_bytes(damaged.tobytes())
        for read in (read_results, read_weights):
            try:
                outcomes.add(type(read(tmp_path / "damaged.nwb")).__name__)
            except MigvisError as error:
                assert "\n" not in str(error)
                outcomes.add("refused")
    assert outcomes == {"Results", "dict", "refused"}


def test_a_size_that_cannot_be_true_asks_for_no_memory(written, tmp_path):
    broken = tmp_path / "broken.nwb"
    broken.write_bytes(written.read_bytes())
    with h5py.File(broken, "r+") as file:
        table = file["analysis/migvis/stimulus_latents/mean"]
        table.resize(2**40, axis=0)
    for read in (read_results, read_weights):
        with pytest.raises(MigvisError, match=r"damaged .*stimulus_latents/mean is said to hold"):
            read(broken)


def test_reading_a_run_that_lacks_something_says_what(written, tmp_path):
    with pytest.raises(MigvisError, match="found no run 'other'; expected one of migvis"):
        read_results(written, "other")
    broken = tmp_path / "broken.nwb"
    broken.write_bytes(written.read_bytes())
    with h5py.File(broken, "r+") as file:
        del file["analysis/migvis/stimulus_latents/mean"]
    with pytest.raises(MigvisError, match="/analysis/migvis is not as ndx-migvis has it"):
        read_results(broken)


WRONG = {
    "an unknown variable": lambda r: dataclasses.replace(r, latents=r.latents.assign(std=r.latents["mean"])),
    "an absent coordinate": lambda r: dataclasses.replace(r, latents=r.latents.drop_vars("split")),
    "float pixels": lambda r: dataclasses.replace(
        r, synthesized=r.synthesized.assign(image=r.synthesized["image"] / 255.0)
    ),
    "float unit ids": lambda r: dataclasses.replace(r, units=r.units.assign_coords(unit=UNIT_IDS + 0.5)),
    "groups of other latents": lambda r: dataclasses.replace(r, groups=r.groups.assign(first=[0, 2, 5])),
    "another column": lambda r: dataclasses.replace(r, groups=r.groups.assign(r2=0.0)),
    "attributes": lambda r: dataclasses.replace(r, units=r.units.assign_attrs(left_out=3)),
    "what is no JSON": lambda r: dataclasses.replace(r, provenance={"a": object()}),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_results_of_another_form_are_refused_before_anything_is_written(session, tmp_path, spoil):
    with pytest.raises((ValueError, TypeError)) as caught:
        write_results(spoil(example_results()), source=session, out=tmp_path / "out.nwb")
    assert not isinstance(caught.value, MigvisError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", " a", "a/b", "a:b", ".", "a\nb"])
def test_a_run_name_that_no_object_can_have_is_refused(session, tmp_path, name):
    with pytest.raises(MigvisError, match="the run name"):
        write_results(example_results(name=name), source=session, out=tmp_path / "out.nwb")


def test_the_unit_rows_lead_to_the_units(written):
    with h5py.File(written) as file:
        column = file["analysis/migvis/unit_loadings/unit_row"]
        units = file[column.attrs["table"]]
        assert units.name == "/units"
        np.testing.assert_array_equal(units["id"][()][column[()]], UNIT_IDS)


def test_images_are_stored_one_a_chunk_and_columns_hold_no_references(written):
    with h5py.File(written) as file:
        image = file["analysis/migvis/synthesized_images/image"]
        assert (image.chunks, image.compression, image.compression_opts, image.shuffle) == (
            (1, 8, 10),
            "gzip",
            4,
            True,
        )

        def check(_, item):
            if isinstance(item, h5py.Dataset) and not item.name.endswith("/gallery/order_of_images"):
                assert h5py.check_ref_dtype(item.dtype) is None, item.name
                assert item.attrs["description"] if "id" not in item.name.split("/")[-1] else True

        file["analysis/migvis"].visititems(check)


def test_the_software_is_named_where_none_was(written):
    with h5py.File(written) as file:
        assert file["general/was_generated_by"].asstr()[0, 0] == "nwb-migvis"


FOREIGN = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("nwb_migvis", "torch"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import warnings
import numpy as np, pynwb
warnings.simplefilter("error")
arrays = {}
assert pynwb.validate(path=sys.argv[1]) == []
with pynwb.NWBHDF5IO(sys.argv[1], "r") as io:
    run = io.read().analysis["migvis"]
    for name in ("latent_groups", "stimulus_latents", "unit_loadings", "synthesized_images",
                 "selectivity", "reader_scores", "selectivity_index"):
        table = getattr(run, name)
        frame = table.to_dataframe(index=True)
        for column in frame:
            text = isinstance(frame[column].iloc[0], str)
            arrays[f"{name}.{column}"] = np.array(frame[column].tolist() if text else table[column].data[:])
    for network, weights in run.model.network_weights.items():
        arrays[f"weights.{network}"] = weights.data[:]
    arrays["provenance"] = np.array(run.model.provenance)
np.savez(sys.argv[2], **arrays)
"""


def test_pynwb_alone_reads_every_table_and_pixel(written, tmp_path):
    file = tmp_path / "arrays.npz"
    subprocess.run([sys.executable, "-c", FOREIGN, str(written), str(file)], check=True)
    arrays = dict(np.load(file))
    given = example_results(maps=True)
    for column in given.groups:
        np.testing.assert_array_equal(arrays[f"latent_groups.{column}"], given.groups[column])
    for table, dataset in (
        ("stimulus_latents", given.latents),
        ("unit_loadings", given.units),
        ("synthesized_images", given.synthesized),
    ):
        own = [n for n in dataset.variables if not (table == "stimulus_latents" and n == "group")]
        assert own
        for name in own:
            np.testing.assert_array_equal(arrays[f"{table}.{name}"], dataset[name].values)
    long = given.selectivity["transfer"].to_dataframe().reset_index()
    for name in ("group", "label", "method", "reader", "transfer"):
        np.testing.assert_array_equal(arrays[f"selectivity.{name}"], long[name])
    for network, data in WEIGHTS.items():
        assert hashlib.sha256(arrays[f"weights.{network}"]).digest() == hashlib.sha256(data).digest()
    assert "Bilder für α" in str(arrays["provenance"])
    assert list(arrays["stimulus_latents.stimulus"]) == STIMULI


def test_labels_may_have_any_name(session, tmp_path):
    names = ("name", "id", "stimulus_", "columns", "size/deg:x", ".", "größe", "size_deg_x", "add_row")
    given = example_results()
    numbers = {name: ("stimulus", np.arange(len(STIMULI)) + i / 10) for i, name in enumerate(names)}
    labels = xr.Dataset(numbers, coords={"stimulus": STIMULI})
    given = dataclasses.replace(given, labels=labels)
    out = write_results(given, source=session, out=tmp_path / "out.nwb")
    found = read_results(out)
    xr.testing.assert_identical(found.labels, labels)
    assert list(found.labels.data_vars) == list(names)
    assert list(found.to_datatree()["labels"].data_vars)[4] == "size_deg:x"
    assert [f for f in validate_file(out) if f.importance == "error"] == []
    with NWBHDF5IO(out, "r") as io:
        table = io.read().analysis["migvis"].stimulus_labels.to_dataframe()
    assert table["stimulus"].tolist() == STIMULI
    assert table["name_"].tolist() == numbers["name"][1].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels.isel(stimulus=slice(None, None, -1)), "not those of results.latents"),
        (lambda labels: labels.assign_coords(extra=("stimulus", np.arange(12))), "besides `stimulus`"),
        (lambda labels: labels.assign(n=("stimulus", np.arange(12))), "not text"),
        (lambda labels: labels.assign(n=("x", np.zeros(3))), "other dims"),
        (lambda labels: labels.assign(n=("stimulus", np.zeros(12), {"unit": "s"})), "other dims or attr"),
    ],
)
def test_labels_of_another_form_are_refused(change, message):
    given = example_results()
    with pytest.raises(ValueError, match=message):
        canonical(dataclasses.replace(given, labels=change(given.labels)))


def test_units_whose_ids_repeat_are_kept_apart(tmp_path):
    session = write_session(tmp_path / "session.nwb")
    with h5py.File(session, "r+") as file:
        file["units/id"][...] = [3, 5, 3, 5]
    given = example_results()
    groups = ["probe a", "probe a", "probe b", "probe b"]
    units = given.units.assign_coords(unit=[3, 5, 3, 5], electrode_group=("unit", groups))
    given = dataclasses.replace(given, units=units.isel(unit=[0, 3, 2, 1]))
    out = write_results(given, source=session)
    found = read_results(out).units
    assert found["unit"].values.tolist() == [3, 5, 3, 5]
    assert found["unit_row"].values.tolist() == [0, 3, 2, 1]
    assert found["electrode_group"].values.tolist() == ["probe a", "probe b", "probe b", "probe a"]
    np.testing.assert_array_equal(found["loading"], units["loading"][[0, 3, 2, 1]])
    assert [f for f in validate_file(out) if f.importance == "error"] == []


@pytest.mark.parametrize("rows", [[0, 1, 2, 4], [1, 0, 2, 3], [-1, 1, 2, 3]])
def test_rows_of_other_units_are_refused(session, tmp_path, rows):
    given = example_results()
    given = dataclasses.replace(given, units=given.units.assign_coords(unit_row=("unit", rows)))
    with pytest.raises(MigvisError, match="unit_row does not lead"):
        write_results(given, source=session, out=tmp_path / "out.nwb")
    assert not (tmp_path / "out.nwb").exists()
