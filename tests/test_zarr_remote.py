"""Zarr folders at addresses: of a web server, a public bucket, the archive; and connections that fail."""

import hashlib
import importlib.util
import json
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import xarray as xr
from examples import WEIGHTS, example_results, write_session
from servers import serving

from nwb_migvis import read_results, read_session, stream_cache
from nwb_migvis.errors import MigvisError
from nwb_migvis.runs import lay_out
from nwb_migvis.runs.fetching import fetched
from nwb_migvis.runs.running import provenance_of
from nwb_migvis.sources import as_source, remote_folder
from nwb_migvis.sources.listing import FileThere, archive_checksum, chunk_files, place_of
from nwb_migvis.store import Destination, list_runs, write_results

HAS_ZARR = sys.version_info >= (3, 12) and importlib.util.find_spec("hdmf_zarr") is not None
needs_zarr = pytest.mark.skipif(not HAS_ZARR, reason="hdmf-zarr is absent, or Python older than 3.12")

NAME = "session_migvis.nwb.zarr"
PATH = f"sub-1/{NAME}"
ASSET = "0a748f90-d497-4a9c-822e-9c63811db412"
ZARR = "cc0f0a1e-f69e-489c-8501-255c20f83068"
VERSION = "0.220126.1852"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with session and results, alone in its own folder."""
    if not HAS_ZARR:
        pytest.skip("hdmf-zarr is absent, or Python older than 3.12")
    source = write_session(tmp_path_factory.mktemp("source") / "session.nwb")
    out = tmp_path_factory.mktemp("zarr") / NAME
    return write_results(example_results(), source=source, weights=WEIGHTS, backend="zarr", out=out)


@pytest.fixture
def served(written, monkeypatch, tmp_path_factory):
    """A server of a copy of the folder; what is fetched goes into a folder of its own."""
    temporary = tmp_path_factory.mktemp("tmp")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(remote_folder, "_here", {})
    monkeypatch.setattr("nwb_migvis.sources.connection.PAUSE_S", 0.0)
    root = tmp_path_factory.mktemp("served")
    shutil.copytree(written, root / NAME)
    with serving(root) as served:
        served.temporary = temporary
        yield served


def _files(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def _refused(call, *arguments):
    code, out, err = call(*arguments)
    assert code == 1 and err.count("\n") == 1 and "Traceback" not in err and not out
    return err


@needs_zarr
def test_a_folder_at_an_address_is_the_one_on_the_disk(served, written):
    address = f"{served.url}/{NAME}"
    remote, local = read_session(address), read_session(written)
    assert remote.drop_attrs(deep=False).identical(local.drop_attrs(deep=False))
    assert remote.attrs["source"] == address
    n_requests = served.n_requests
    xr.testing.assert_identical(read_results(address).latents, read_results(written).latents)
    assert served.n_requests == n_requests  # it is fetched once
    assert remote["image"][0].values.shape == local["image"][0].values.shape
    (kept,) = {path.parent.name for path in served.temporary.glob("*/*.zarr")}
    assert (served.temporary / kept).stat().st_mode & 0o777 == 0o700


@needs_zarr
def test_the_digest_is_that_of_the_folder_and_access_is_not_recorded(served, written):
    local = as_source(written, what="source").provenance()
    remote = as_source(f"{served.url}/{NAME}/?key=secret", what="source")
    assert remote.provenance() == {**local, "path": NAME, "address": f"{served.url}/{NAME}/"}


@needs_zarr
def test_commands_take_an_address(served, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address = f"{served.url}/{NAME}"
    code, out, _ = call("inspect", address, "--json")
    assert code == 0 and json.loads(out)["source"] == address
    assert f"{address}: valid" in call("validate", address)[1]
    assert call("export", address, "tables")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"tables"}


@needs_zarr
def test_a_run_copies_it_beside_its_output_and_names_the_address(served, tmp_path):
    source = as_source(f"{served.url}/{NAME}", what="source")
    with fetched([source], Destination(out=tmp_path / "again.nwb")) as found:
        (file,) = found.sources
        out = write_results(example_results(), source=file, out=found.destination.out, overwrite=True)
        record = provenance_of(file, found.addresses)
    assert list_runs(out) == ["migvis"] and [path.name for path in tmp_path.iterdir()] == ["again.nwb"]
    assert record["address"] == str(source) and len(record["sha256"]) == 64 and record["object_id"]


@needs_zarr
def test_results_without_the_recording_say_where_that_is(served, tmp_path):
    address = f"{served.url}/{NAME}"
    results = example_results(name="second")
    out = write_results(results, source=address, out=tmp_path / "alone.nwb", results_only=True)
    assert list_runs(out) == ["second"]
    (place,) = lay_out([address], tmp_path / "dandiset")
    assert list_runs(place) == ["migvis"]


@needs_zarr
def test_a_chunk_that_was_never_written_is_the_fill_value(served, written):
    chunk = next(served.folder.glob(f"{NAME}/**/log_var/c/0/0"))
    chunk.unlink()
    copy = written.with_name("less.nwb.zarr")
    shutil.copytree(served.folder / NAME, copy)
    try:
        remote, local = (read_results(path).latents for path in (f"{served.url}/{NAME}", copy))
    finally:
        shutil.rmtree(copy)
    xr.testing.assert_identical(remote, local)


@needs_zarr
@pytest.mark.parametrize("status", [403, 500])
def test_any_other_failure_of_a_chunk_is_an_error(served, call, status):
    chunk = next(served.folder.glob(f"{NAME}/**/log_var/c/0/0")).relative_to(served.folder)
    served.refused[f"/{chunk.as_posix()}"] = status
    error = _refused(call, "inspect", f"{served.url}/{NAME}")
    assert str(status) in error
    assert not list(served.temporary.iterdir())


@needs_zarr
@pytest.mark.parametrize("status", [403, 500, None])
def test_a_stream_cache_hides_no_failure(served, call, status, tmp_path):
    chunk = next(served.folder.glob(f"{NAME}/**/log_var/c/0/0")).relative_to(served.folder)
    served.refused[f"/{chunk.as_posix()}"] = status
    error = _refused(call, "inspect", f"{served.url}/{NAME}", "--stream-cache", tmp_path)
    assert (str(status) if status else "could not be reached") in error
    assert not list(served.temporary.iterdir())


@needs_zarr
def test_what_is_not_there_is_one_line(served, call):
    assert "404" in _refused(call, "inspect", f"{served.url}/none.nwb.zarr")
    (served.folder / NAME / "units" / "spike_times" / "zarr.json").unlink()
    error = _refused(call, "inspect", f"{served.url}/{NAME}")
    assert "units/spike_times/zarr.json was not found (404)" in error
    assert not list(served.temporary.iterdir())


@needs_zarr
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_dropped_connection_is_one_line_and_leaves_nothing(served, call, share, tmp_path):
    n_bytes = sum(path.stat().st_size for path in _files(served.folder).values())
    served.breaks_after = int(share * n_bytes)
    out = tmp_path / "x.nwb"
    error = _refused(call, "run", f"{served.url}/{NAME}", "--out", out, "--name", "other")
    assert "connection was lost" in error
    assert not list(served.temporary.iterdir()) and not list(tmp_path.iterdir())


@needs_zarr
def test_a_connection_that_comes_back_is_not_an_error(served, monkeypatch):
    served.breaks_after = 5000

    def mend(_):
        served.breaks_after = None

    monkeypatch.setattr("nwb_migvis.sources.connection.time.sleep", mend)
    assert list_runs(f"{served.url}/{NAME}") == ["migvis"]


@needs_zarr
def test_a_server_that_is_gone_is_one_line(written, call):
    with serving(written.parent) as served:
        address = f"{served.url}/{NAME}"
    assert "connection was lost (Cannot connect" in _refused(call, "inspect", address)


@needs_zarr
def test_a_second_run_from_the_stream_cache_fetches_nothing(served, tmp_path):
    address = f"{served.url}/{NAME}"
    with stream_cache(tmp_path):
        list_runs(address)
        n_bytes = served.n_bytes
        remote_folder._here.clear()
        assert list_runs(address) == ["migvis"] and served.n_bytes == n_bytes > 0
        remote_folder._here.clear()
        served.has_state = False
        with pytest.raises(MigvisError, match="no ETag"):
            list_runs(address)


@needs_zarr
def test_other_folders_and_those_that_do_not_list_themselves_are_refused(served, call):
    root = served.folder / NAME / "zarr.json"
    about = json.loads(root.read_text())
    root.write_text(json.dumps({**about, "attributes": {}}))
    assert "is no NWB session" in _refused(call, "inspect", f"{served.url}/{NAME}")
    del about["consolidated_metadata"]
    root.write_text(json.dumps(about))
    assert "consolidate" in _refused(call, "inspect", f"{served.url}/{NAME}")


@needs_zarr
@pytest.mark.parametrize("place", ["../../outside", "/outside", "a/../../outside", "a\\b"])
def test_a_name_that_leads_out_of_the_folder_is_refused(served, call, place):
    root = served.folder / NAME / "zarr.json"
    about = json.loads(root.read_text())
    about["consolidated_metadata"]["metadata"][place] = {"node_type": "group", "zarr_format": 3}
    root.write_text(json.dumps(about))
    assert "not to be trusted" in _refused(call, "inspect", f"{served.url}/{NAME}")
    assert not list(served.temporary.rglob("outside*"))


@needs_zarr
def test_a_public_bucket_is_read_without_credentials(served, written, call, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", served.url)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    (served.folder / "bucket").mkdir()
    shutil.move(served.folder / NAME, served.folder / "bucket" / NAME)
    address = f"s3://bucket/{NAME}"
    xr.testing.assert_identical(read_results(address).latents, read_results(written).latents)
    assert "nothing there" in _refused(call, "inspect", "s3://bucket/none.nwb.zarr")


def _zarr_checksum(folder):
    """Return the archive's digest of a folder, written from its description alone."""
    folders, files = [], []
    for path in sorted(folder.iterdir(), key=lambda p: p.name):
        if path.is_dir():
            digest = _zarr_checksum(path)
            size = int(digest.rpartition("-")[2])
            folders.append({"digest": digest, "name": path.name, "size": size})
        else:
            data = path.read_bytes()
            md5 = hashlib.md5(data).hexdigest()
            files.append({"digest": md5, "name": path.name, "size": len(data)})
    text = json.dumps({"directories": folders, "files": files}, separators=(",", ":"))
    n_files = len(files) + sum(int(entry["digest"].split("-")[1]) for entry in folders)
    n_bytes = sum(entry["size"] for entry in files + folders)
    return f"{hashlib.md5(text.encode()).hexdigest()}-{n_files}--{n_bytes}"


@pytest.fixture
def archive(served, monkeypatch):
    """A small part of the DANDI archive's API, with a Zarr asset whose files are listed on two pages."""
    stored = served.folder / "zarr" / ZARR
    stored.parent.mkdir()
    shutil.move(served.folder / NAME, stored)
    about = {
        "path": PATH,
        "identifier": ASSET,
        "encodingFormat": "application/x-zarr",
        "contentUrl": [f"{served.url}/api/assets/{ASSET}/download/", f"{served.url}/zarr/{ZARR}/"],
        "digest": {"dandi:dandi-zarr-checksum": _zarr_checksum(stored)},
    }
    rows = [
        {
            "Key": key,
            "LastModified": "2026-01-01T00:00:00Z",
            "ETag": hashlib.md5(path.read_bytes()).hexdigest(),
            "Size": path.stat().st_size,
        }
        for key, path in sorted(_files(stored).items())
    ]
    version, half = f"/api/dandisets/000004/versions/{VERSION}/assets/", len(rows) // 2
    listed = f"/api/zarr/{ZARR}/files/"
    following = f"{listed}?after={rows[half - 1]['Key'].replace('/', '%2F')}"
    row = {"path": PATH, "asset_id": ASSET, "blob": None, "zarr": ZARR, "metadata": about}
    served.answers |= {
        "/api/dandisets/000004/": {"most_recent_published_version": {"version": VERSION}},
        f"{version}?path=sub-1%2F{NAME}&order=path&metadata=true": {"results": [row]},
        f"/api/assets/{ASSET}/": about,
        f"/api/assets/{ASSET}/info/": row,
        listed: {"next": f"{served.url}{following}", "results": rows[:half]},
        following: {"next": None, "results": rows[half:]},
    }
    served.stored, served.listed, served.following, served.about = stored, listed, following, about
    monkeypatch.setenv("NWB_MIGVIS_DANDI_API", f"{served.url}/api")
    return served


@needs_zarr
@pytest.mark.parametrize(
    "given",
    [
        f"dandi://dandi/000004@{VERSION}/{PATH}",
        f"000004:{PATH}",
        "{url}/api/assets/" + ASSET + "/download/",
    ],
)
def test_a_folder_in_the_archive_is_read(archive, written, given):
    address = given.format(url=archive.url)
    xr.testing.assert_identical(read_results(address).latents, read_results(written).latents)
    record = as_source(address, what="source").provenance()
    assert record["address"] == address and record["asset_id"] == ASSET and record["path"] == NAME
    assert record["zarr_checksum"] == archive.about["digest"]["dandi:dandi-zarr-checksum"]
    assert record["sha256"] == as_source(written, what="source").provenance()["sha256"]
    if "assets" not in given:
        assert (record["dandiset"], record["version"]) == ("000004", VERSION)


@needs_zarr
def test_a_folder_of_the_archive_that_is_kept_is_not_fetched_again(archive, tmp_path):
    with stream_cache(tmp_path):
        list_runs(f"000004:{PATH}")
        n_requests = archive.n_requests
        remote_folder._here.clear()
        assert list_runs(f"000004:{PATH}") == ["migvis"] and archive.n_requests == n_requests
        remote_folder._here.clear()
        next(tmp_path.rglob("whole-*/*")).write_bytes(b"cut")
        assert list_runs(f"000004:{PATH}") == ["migvis"] and archive.n_requests == n_requests + 1


@needs_zarr
def test_what_the_archive_does_not_vouch_for_is_refused(archive, call):
    address = f"000004:{PATH}"
    chunk = next(archive.stored.glob("**/log_var/c/0/0"))
    data = chunk.read_bytes()
    chunk.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "other bytes arrived" in _refused(call, "inspect", address)
    chunk.unlink()
    assert "was not found (404)" in _refused(call, "inspect", address)
    digest = "dandi:dandi-zarr-checksum"
    archive.about["digest"] = {digest: archive.about["digest"][digest].replace("-", "0-", 1)}
    assert "may be changing" in _refused(call, "inspect", address)
    assert not list(archive.temporary.iterdir())


@needs_zarr
def test_lists_of_the_archive_that_lead_elsewhere_are_refused(archive, call):
    address = f"000004:{PATH}"
    del archive.about["digest"]
    rows = archive.answers[archive.following]["results"]
    rows[0]["Key"] = "../../outside"
    assert "not to be trusted" in _refused(call, "inspect", address)
    archive.answers[archive.following] = {"next": "file:///etc/passwd", "results": rows}
    assert "expected a web address" in _refused(call, "inspect", address)
    archive.answers[archive.following] = {"results": [{"Key": "x"}]}
    assert "lists no files" in _refused(call, "inspect", address)
    del archive.answers[archive.following]
    assert "404" in _refused(call, "inspect", address)
    archive.answers[archive.listed] = {"next": None, "results": []}
    assert "found nothing there" in _refused(call, "inspect", address)
    assert not list(archive.temporary.iterdir())


@needs_zarr
def test_pickles_of_zarr_2_are_refused_before_chunks_are_fetched(archive, call):
    shutil.rmtree(archive.stored)
    (archive.stored / "general").mkdir(parents=True)
    (archive.stored / ".zgroup").write_text('{"zarr_format": 2}')
    (archive.stored / ".zattrs").write_text('{"neurodata_type": "NWBFile", "namespace": "core"}')
    filters = [{"id": "pickle", "protocol": 5}]
    (archive.stored / "general" / ".zarray").write_text(json.dumps({"zarr_format": 2, "filters": filters}))
    (archive.stored / "general" / "0").write_bytes(b"a pickle")
    files = _files(archive.stored)
    rows = [{"Key": k, "ETag": "", "Size": path.stat().st_size} for k, path in files.items()]
    archive.answers[archive.listed] = {"next": None, "results": rows}
    del archive.about["digest"]
    error = _refused(call, "inspect", f"000004:{PATH}")
    assert "/general is stored as pickles (Zarr 2)" in error
    assert not any(asked.endswith("/general/0") for asked in archive.asked)


@needs_zarr
def test_too_little_space_is_said_before_anything_is_fetched(archive, call):
    rows = archive.answers[archive.listed]["results"]
    del archive.about["digest"]
    rows[0]["Size"] = 10**18
    assert "of free space" in _refused(call, "inspect", f"000004:{PATH}")
    assert archive.n_requests == 1  # the root's metadata


@pytest.mark.skipif(HAS_ZARR, reason="hdmf-zarr is here")
def test_without_hdmf_zarr_it_is_said_before_anything_is_fetched():
    with pytest.raises(MigvisError, match=r"extra 'zarr'.*Python 3\.12"):
        read_session("https://127.0.0.1:9/session.nwb.zarr")


def test_the_archives_digest_is_the_one_that_it_documents(tmp_path):
    for key in ("zarr.json", "b/zarr.json", "b/c/0/0", "b-c/zarr.json", "a"):
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key * 3)
    files = [
        FileThere(key, path.stat().st_size, hashlib.md5(path.read_bytes()).hexdigest())
        for key, path in _files(tmp_path).items()
    ]
    assert archive_checksum(files) == _zarr_checksum(tmp_path)
    # values in the tests of https://github.com/dandi/dandi-archive
    one, two = FileThere("bar", 1, "a" * 32), FileThere("baz", 2, "b" * 32)
    assert archive_checksum([]) == "481a2f77ab786a0f45aafd5db0971caa-0--0"
    assert archive_checksum([one]) == "f21b9b4bf53d7ce1167bcfae76371e59-1--1"
    assert archive_checksum([two, one]) == "4e67de4393d14c1e9c472438f0f1f8b1-2--3"


def _array(shape, chunk, **encoding):
    return {
        "node_type": "array",
        "shape": shape,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": encoding or {"name": "default"},
    }


def test_names_of_chunks_follow_from_shape_and_grid():
    v2 = {"name": "v2", "configuration": {"separator": "."}}
    nodes = {
        "g": {"node_type": "group"},
        "a": _array([3, 2], [2, 2]),
        "s": _array([], []),
        "e": _array([0], [5]),
    }
    nodes |= {"old": _array([3, 2], [2, 1], **v2), "one": _array([], [], **v2)}
    assert [file.key for file in chunk_files(nodes, address="x")] == [
        *("a/c/0/0", "a/c/1/0", "s/c", "old/0.0", "old/0.1", "old/1.0", "old/1.1", "one/0")
    ]
    for wrong in (
        _array([3], [0]),
        _array([3], [1, 1]),
        _array([3], [1], name="other"),
        {"node_type": "array"},
    ):
        with pytest.raises(MigvisError, match="regular grid"):
            chunk_files({"a": wrong}, address="x")
    with pytest.raises(MigvisError, match="at most"):
        chunk_files({"a": _array([10**12], [1])}, address="x")


def test_files_lie_inside_the_folder():
    assert place_of("a/c/0", Path("x"), address="") == Path("x/a/c/0")
    for key in ("", "/a", "../a", "a/..", "a//b", "C:/a", "a\0b", "./a"):
        with pytest.raises(MigvisError, match="not to be trusted"):
            place_of(key, Path("x"), address="")
