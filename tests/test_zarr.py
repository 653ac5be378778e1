"""Sessions in Zarr folders, read and written; where hdmf-zarr is (Python 3.12 or newer)."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
import xarray as xr
from examples import WEIGHTS, example_results, name_trials, results_with_rows, write_session

from nwb_migvis import read_results, read_session
from nwb_migvis.cli import main
from nwb_migvis.errors import MigvisError
from nwb_migvis.read import inspect_session
from nwb_migvis.runs import lay_out
from nwb_migvis.runs.fetching import fetched
from nwb_migvis.runs.running import provenance_of
from nwb_migvis.sources import as_source
from nwb_migvis.store import Destination, list_runs, read_weights, write_results

HAS_ZARR = sys.version_info >= (3, 12) and importlib.util.find_spec("hdmf_zarr") is not None
needs_zarr = pytest.mark.skipif(not HAS_ZARR, reason="hdmf-zarr is absent, or Python older than 3.12")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_session(tmp_path_factory.mktemp("zarr") / "session.nwb")


@pytest.fixture(scope="module")
def written(source):
    """A folder with session and results."""
    return write_results(example_results(), source=source, weights=WEIGHTS, backend="zarr")


@needs_zarr
def test_a_folder_holds_session_and_results(source, written):
    assert written == source.with_name("session_migvis.nwb.zarr") and written.is_dir()
    assert {path.name for path in source.parent.iterdir()} == {source.name, written.name}
    before, after = read_session(source), read_session(written)
    told = set(after.coords) - set(before.coords)  # labels of the run
    assert after.drop_vars(told).drop_attrs(deep=False).identical(before.drop_attrs(deep=False))
    results = read_results(written)
    for part in ("latents", "units", "synthesized", "selectivity", "decoding"):
        xr.testing.assert_identical(getattr(results, part), getattr(example_results(), part))
    assert read_weights(written) == WEIGHTS


@needs_zarr
def test_pynwb_finds_it_valid_and_objects_keep_their_ids(source, written):
    from hdmf_zarr import NWBZarrIO

    with NWBZarrIO(str(written), mode="r") as io, pynwb.NWBHDF5IO(source, "r") as old:
        assert pynwb.validate(io=io) == []
        nwb, before = io.read(), old.read()
        assert nwb.object_id == before.object_id
        assert set(before.objects) <= set(nwb.objects)
        assert [row[0] for row in np.asarray(nwb.was_generated_by[:]).tolist()] == ["nwb-migvis"]


@needs_zarr
def test_nothing_in_it_is_pickled(written):
    assert not list(written.rglob(".zarray"))
    codecs = [json.loads(path.read_text()).get("codecs", []) for path in written.rglob("zarr.json")]
    assert "pickle" not in json.dumps(codecs)
    assert "NUMCODECS_ALLOW_UNSAFE_PICKLE_DECODE" not in os.environ


@needs_zarr
def test_a_run_on_a_folder_copies_it_as_hdf5(written, tmp_path):
    folder = as_source(written, what="source")
    with fetched([folder], Destination(out=tmp_path / "again.nwb")) as found:
        (file,) = found.sources
        out = write_results(example_results(), source=file, out=found.destination.out, overwrite=True)
        record = provenance_of(file, found.addresses)
    assert list_runs(out) == ["migvis"] and [path.name for path in tmp_path.iterdir()] == ["again.nwb"]
    assert record["path"] == written.name and record == {**record, **folder.provenance()}


@needs_zarr
def test_commands_take_a_folder(written, capsys):
    for words in (["inspect", str(written), "--json"], ["validate", str(written)]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 0
    assert f"{written}: valid" in capsys.readouterr().out


@needs_zarr
def test_a_folder_is_laid_out_as_hdf5_for_the_archive(written, tmp_path):
    (place,) = lay_out([written], tmp_path)
    assert place.suffix == ".nwb" and place.is_file() and list_runs(place) == ["migvis"]
    assert sorted(path.name for path in place.parent.iterdir()) == [place.name]
    lay_out([written], tmp_path, overwrite=True)
    (alone,) = lay_out([written], tmp_path / "alone", results_only=True)
    assert alone.suffix == ".nwb" and alone.is_file()


@needs_zarr
def test_a_folder_that_lost_an_array_is_damaged(written, tmp_path):
    folder = tmp_path / "changed.nwb.zarr"
    shutil.copytree(written, folder)
    assert inspect_session(folder)["n_units"] > 0
    shutil.rmtree(folder / "units" / "spike_times")
    with pytest.raises(MigvisError, match="/units/spike_times is absent"):
        inspect_session(folder)


@needs_zarr
def test_what_a_folder_cannot_be_is_refused(source, written):
    results = example_results()
    with pytest.raises(MigvisError, match="exists already"):
        write_results(results, source=source, backend="zarr")
    for wrong in ({"in_place": True}, {"overwrite": True}):
        with pytest.raises(MigvisError, match="not replaced in one step"):
            write_results(results, source=source, backend="zarr", **wrong)
    with pytest.raises(MigvisError, match=r"ending in \.nwb\.zarr"):
        write_results(results, source=source, backend="zarr", out=source.with_name("x.nwb"))
    assert sorted(path.name for path in source.parent.iterdir()) == [source.name, written.name]


@needs_zarr
def test_a_folder_that_would_lose_something_is_not_written(source, tmp_path, monkeypatch):
    from nwb_migvis.sources import folder as folders

    def copy_less(file, folder):
        written_whole(file, folder)
        shutil.rmtree(folder / "stimulus" / "templates")

    written_whole = folders.copy_to_zarr
    monkeypatch.setattr("nwb_migvis.store.folders.copy_to_zarr", copy_less)
    with pytest.raises(MigvisError):
        write_results(example_results(**LEAST), source=source, backend="zarr", out=tmp_path / "x.nwb.zarr")
    assert not list(tmp_path.iterdir())


LEAST = {"edits": False, "evidence": False, "labels": False}

KILLED = """
import sys
from examples import example_results
from nwb_migvis.store import write_results
results = example_results(edits=False, evidence=False, labels=False)
print("begins", flush=True)
write_results(results, source=sys.argv[1], backend="zarr", out=sys.argv[2])
"""


@needs_zarr
@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_a_kill_leaves_the_folder_whole_or_absent(source, tmp_path, seconds):
    digest = source.read_bytes()
    out = tmp_path / "x.nwb.zarr"
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(source), str(out)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert source.read_bytes() == digest
    if out.exists():
        assert list_runs(out) == ["migvis"]
        return
    write_results(example_results(**LEAST), source=source, backend="zarr", out=out)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@needs_zarr
def test_rows_of_presentations_lead_to_the_folders_own_table(tmp_path):
    from hdmf_zarr import NWBZarrIO

    source, results = name_trials(write_session(tmp_path / "session.nwb")), results_with_rows(**LEAST)
    written = write_results(results, source=source, backend="zarr")
    xr.testing.assert_identical(read_results(written).presentations, results.presentations)
    with NWBZarrIO(str(written), mode="r") as io:
        file = io.read()
        shown = file.analysis["migvis"].stimulus_latents["presentations"]
        assert shown.target.table is file.trials and len(shown[0]) == 4


def _old_folder(path, *, filters):
    (path / "general").mkdir(parents=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text('{"neurodata_type": "NWBFile", "namespace": "core"}')
    (path / "general" / ".zarray").write_text(json.dumps({"zarr_format": 2, "filters": filters}))
    return path


@needs_zarr
def test_pickles_are_refused_and_not_read(tmp_path):
    path = _old_folder(tmp_path / "old.nwb.zarr", filters=[{"id": "pickle", "protocol": 5}])
    with pytest.raises(MigvisError, match=r"/general is stored as pickles \(Zarr 2\)"):
        inspect_session(path)


@pytest.mark.skipif(HAS_ZARR, reason="hdmf-zarr is here")
def test_without_hdmf_zarr_it_is_said_what_to_do(tmp_path, source):
    path = _old_folder(tmp_path / "old.nwb.zarr", filters=None)
    with pytest.raises(MigvisError, match=r"extra 'zarr'.*Python 3\.12"):
        read_session(path)
    with pytest.raises(MigvisError, match="extra 'zarr'"):
        write_results(example_results(), source=source, backend="zarr")


def test_other_folders_are_none_and_names_must_fit(tmp_path, source):
    (tmp_path / "analyzer.zarr").mkdir()
    (tmp_path / "analyzer.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(MigvisError, match="is a directory"):
        read_session(tmp_path / "analyzer.zarr")
    with pytest.raises(MigvisError, match="name of a Zarr folder"):
        write_results(example_results(), source=source, out=tmp_path / "x.nwb.zarr")
    with pytest.raises(MigvisError, match="expected 'hdf5' or 'zarr'"):
        write_results(example_results(), source=source, backend="n5")
    with h5py.File(source, "r") as file:
        assert file["identifier"].shape == ()


def _layout(folder):
    """Return chunks and codecs of every array of a folder that no run added."""
    arrays = {}
    for file in folder.rglob("zarr.json"):
        about = json.loads(file.read_text())
        place = file.parent.relative_to(folder).as_posix()
        if about["node_type"] == "array" and not place.startswith(("analysis", "specifications")):
            arrays[place] = (about["chunk_grid"], about["codecs"])
    return arrays


@needs_zarr
def test_chunks_and_gzip_of_a_file_are_kept_in_a_folder(tmp_path):
    source = write_session(tmp_path / "session.nwb")
    with h5py.File(source, "r+") as file:
        values, attributes = file["units/spike_times"][()], dict(file["units/spike_times"].attrs)
        del file["units/spike_times"]
        stored = {"chunks": (64,), "compression": "gzip", "compression_opts": 3, "shuffle": True}
        file["units"].create_dataset("spike_times", data=values, **stored).attrs.update(attributes)
    written = write_results(example_results(**LEAST), source=source, backend="zarr")
    grid, codecs = _layout(written)["units/spike_times"]
    assert grid["configuration"]["chunk_shape"] == [64]
    assert [(codec["name"], codec.get("configuration")) for codec in codecs[1:]] == [
        ("numcodecs.shuffle", {"elementsize": 8}),
        ("numcodecs.zlib", {"level": 3}),
    ]


@needs_zarr
def test_arrays_of_a_folder_keep_their_own_layout_in_a_folder(written, tmp_path):
    import zarr
    from hdmf_zarr import NWBZarrIO

    original = tmp_path / "original.nwb.zarr"
    shutil.copytree(written, original)
    units = zarr.open_group(original, mode="r+", use_consolidated=False)["units"]
    old = units["spike_times"]
    values, attributes = old[:], dict(old.attrs)
    codec = zarr.codecs.BloscCodec(cname="lz4", clevel=2)
    new = units.create_array(
        "spike_times", shape=values.shape, dtype=values.dtype, chunks=(20,), shards=(100,), compressors=codec,
        overwrite=True,
    )  # fmt: skip
    new[:] = values
    new.attrs.update(attributes)
    zarr.consolidate_metadata(original)
    where = {"out": tmp_path / "x.nwb.zarr", "backend": "zarr"}
    with fetched([as_source(original, what="source")], Destination(**where)) as found:
        (file,) = found.sources
        results = example_results(**LEAST, name="second")
        copy = write_results(results, source=file, **where)
    before, after = _layout(original), _layout(copy)
    rows = "general/was_generated_by"  # to which a row is added
    assert {name: after[name] for name in before if name != rows} == {
        name: layout for name, layout in before.items() if name != rows
    }
    assert "sharding_indexed" in json.dumps(after["units/spike_times"])
    assert list_runs(copy) == ["migvis", "second"]
    with NWBZarrIO(str(original), mode="r") as one, NWBZarrIO(str(copy), mode="r") as other:
        assert set(one.read().objects) <= set(other.read().objects)
        assert pynwb.validate(io=other) == []
    np.testing.assert_array_equal(zarr.open_group(copy, mode="r")["units/spike_times"][:], values)
