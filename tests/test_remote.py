"""Sessions over the network: addresses, what is fetched, the cache on disk, and connections that fail."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from layouts import index_series
from servers import serving

from nwb_migvis import read_session, read_sessions, stream_cache
from nwb_migvis.errors import MigvisError
from nwb_migvis.read import inspect_session
from nwb_migvis.sources import as_source, close_streams
from nwb_migvis.sources.address import public_address

ASSET = "0a748f90-d497-4a9c-822e-9c63811db412"
VERSION = "0.220126.1852"
PATH = "sub-1/sub-1_ses-2.nwb"


@pytest.fixture(autouse=True)
def _no_streams():
    """Leave nothing open that one test fetched for the next."""
    yield
    close_streams()


@pytest.fixture
def served(pristine):
    with serving(pristine.parent) as served:
        yield served


@pytest.fixture
def address(served, pristine):
    return f"{served.url}/{pristine.name}"


@pytest.fixture
def archive(served, pristine, monkeypatch):
    """A small part of the DANDI archive's API, beside the file."""
    stored = f"{served.url}/{pristine.name}"
    about = {
        "path": PATH,
        "identifier": ASSET,
        "encodingFormat": "application/x-nwb",
        "contentUrl": [f"{served.url}/api/assets/{ASSET}/download/", stored],
        "digest": {"dandi:sha2-256": _sha256(pristine)},
    }
    version = f"/api/dandisets/000004/versions/{VERSION}/assets/"
    row = {"path": PATH, "asset_id": ASSET, "metadata": about}
    served.answers |= {
        "/api/dandisets/000004/": {"most_recent_published_version": {"version": VERSION}},
        f"{version}?path=sub-1%2Fsub-1_ses-2.nwb&order=path&metadata=true": {"results": [row]},
        f"{version}?path=sub-9.nwb&order=path&metadata=true": {"results": []},
        f"{version}{ASSET}/": about,
        f"/api/assets/{ASSET}/": about,
    }
    monkeypatch.setenv("NWB_MIGVIS_DANDI_API", f"{served.url}/api")
    return served


def _sha256(path):
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def _same(remote, local):
    both = [session.drop_attrs(deep=False) for session in (remote, local)]
    if remote["image"].nbytes > 1e8:
        both = [session.isel(stimulus=slice(0, 1)) for session in both]
    assert both[0].identical(both[1])
    differing = {key for key in local.attrs if remote.attrs[key] != local.attrs[key]}
    assert differing <= {"source"}


def test_a_session_at_an_address_is_the_one_on_the_disk(address, served, pristine):
    session = read_session(address)
    _same(session, read_session(pristine))
    assert session.attrs["source"] == address
    assert served.n_bytes <= 1.2 * pristine.stat().st_size
    (again,) = read_sessions([address])
    _same(again, session)


def test_of_a_large_file_little_is_fetched_until_pixels_are(tmp_path):
    names = [f"pic{k}" for k in range(20)]
    path = index_series(
        tmp_path / "large.nwb", pixels={n: np.zeros((2, 2), np.uint8) for n in names}, index=range(20)
    ).path
    _enlarge(path, names, side=5000)
    n_bytes = path.stat().st_size
    assert n_bytes > 500e6
    with serving(tmp_path) as served:
        address = f"{served.url}/large.nwb"
        assert inspect_session(address)["image_shape"] == [5000, 5000]
        assert served.n_bytes < 0.05 * n_bytes
        session = read_session(address)
        before = served.n_bytes
        assert session["image"][3].values.max() == 0
        assert 25e6 <= served.n_bytes - before < 27e6
        _same(session, read_session(path))


def _enlarge(path, names, *, side):
    """Give images a size of megabytes that no disk holds: nothing is written to them."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((side, side))
    with h5py.File(path, "r+") as file:
        group = file["stimulus/templates/pictures"]
        for name in names:
            attrs = dict(group[name].attrs)
            del group[name]
            h5py.h5d.create(group.id, name.encode(), h5py.h5t.STD_U8LE, space, layout)
            group[name].attrs.update(attrs)
        group["order_of_images"][...] = np.array([group[name].ref for name in names], h5py.ref_dtype)


def test_an_open_file_is_read_and_stays_open(pristine):
    with h5py.File(pristine, "r") as file, pristine.open("rb") as stream, h5py.File(stream, "r") as streamed:
        _same(read_session(file), read_session(pristine))
        session = read_session(streamed)
        _same(session, read_session(pristine))
        assert inspect_session(streamed) | {"source": ""} == inspect_session(file) | {"source": ""}
        assert streamed["units/id"].shape == file["units/id"].shape
    with pytest.raises(MigvisError, match="closed"):
        read_session(streamed)
    with pytest.raises(MigvisError, match="was closed"):
        _ = session["image"].values


@pytest.mark.parametrize(
    "given",
    [
        f"dandi://dandi/000004@{VERSION}/{PATH}",
        f"dandi://dandi/000004/{PATH}",
        f"000004:{PATH}",
        f"000004@{VERSION}:{PATH}",
        "{url}/api/assets/" + ASSET,
        "{url}/api/assets/" + ASSET + "/download/",
        "{url}/api/dandisets/000004/versions/" + f"{VERSION}/assets/{ASSET}/download/",
    ],
)
def test_an_address_in_the_archive_leads_to_its_bytes(archive, pristine, given):
    source = as_source(given.format(url=archive.url), what="path")
    assert source.url == f"{archive.url}/{pristine.name}"
    record = source.provenance()
    assert record["path"] == "sub-1_ses-2.nwb" and record["asset_id"] == ASSET
    assert record["sha256"] == _sha256(pristine)
    if "/api/assets/" not in given:
        assert (record["dandiset"], record["version"]) == ("000004", VERSION)


def test_what_grants_access_is_not_recorded(address):
    source = as_source(f"{address}?X-Amz-Signature=secret", what="path")
    assert source.provenance()["address"] == address
    assert public_address("https://me:word@host/x.nwb?key=1") == "https://host/x.nwb"


def test_a_path_type_may_have_taken_a_slash(address):
    assert str(as_source(Path(address), what="path")) == address


def test_a_file_whose_name_looks_like_an_address_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("000004:x.nwb").touch()
    assert as_source("000004:x.nwb", what="path") == Path("000004:x.nwb")


def test_inspect_prints_what_the_file_holds(call, archive):
    code, out, _ = call("inspect", f"000004:{PATH}", "--json")
    assert code == 0 and json.loads(out)["source"] == f"000004:{PATH}"


def test_a_second_run_from_the_stream_cache_fetches_nothing(call, address, served, tmp_path):
    first = call("inspect", address, "--stream-cache", tmp_path / "cache")
    fetched = served.n_bytes
    close_streams()
    second = call("inspect", address, "--stream-cache", tmp_path / "cache")
    assert first == second and first[0] == 0
    assert fetched > 0 and served.n_bytes == fetched


def test_a_file_that_changed_is_not_read_from_the_stream_cache(session, tmp_path):
    with serving(session.parent) as served, stream_cache(tmp_path / "cache"):
        address = f"{served.url}/{session.name}"
        before = read_session(address)
        close_streams()
        with h5py.File(session, "r+") as file:
            file["identifier"][()] = "another"
        assert read_session(address).attrs["identifier"] == "another" != before.attrs["identifier"]


def test_a_damaged_block_is_fetched_again(address, served, tmp_path):
    with stream_cache(tmp_path):
        before = read_session(address)
        close_streams()
        next(tmp_path.rglob("000000000000")).write_bytes(b"cut")
        _same(read_session(address), before)


def _refused(call, *arguments):
    code, _, err = call(*arguments)
    assert code == 1 and err.count("\n") == 1 and "Traceback" not in err
    return err


def test_what_is_not_there_is_one_line(call, archive):
    for given in (f"{archive.url}/none.nwb", f"{archive.url}/api/assets/{ASSET[:-1]}0/"):
        assert "404" in _refused(call, "inspect", given)
    assert "404" in _refused(call, "inspect", f"000005:{PATH}")
    assert "has no file sub-9.nwb" in _refused(call, "inspect", "000004:sub-9.nwb")
    assert "https://" in _refused(call, "inspect", "gs://bucket/x.nwb")
    assert "is not an address" in _refused(call, "inspect", "dandi://000004/x.nwb")
    assert "unknown" in _refused(call, "inspect", f"dandi://mine/000004/{PATH}")
    assert "not an NWB file" in _refused(call, "inspect", _text_file(archive))


def _text_file(served):
    (served.folder / "text.nwb").write_text("no HDF5")
    return f"{served.url}/text.nwb"


def test_a_server_that_is_gone_is_one_line(call, pristine):
    with serving(pristine.parent) as served:
        address = f"{served.url}/{pristine.name}"
    assert "could not be reached" in _refused(call, "inspect", address)


def test_a_server_without_ranges_is_one_line(call, served):
    served.has_ranges = False
    with h5py.File(served.folder / "big.nwb", "w") as file:
        file["filler"] = np.zeros(2**23, np.uint8)
    assert "no ranges" in _refused(call, "inspect", f"{served.url}/big.nwb")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_dropped_connection_is_one_line(call, address, served, pristine, share, monkeypatch):
    monkeypatch.setattr("nwb_migvis.sources.connection.PAUSE_S", 0.0)
    served.breaks_after = int(share * pristine.stat().st_size)
    assert "connection was lost" in _refused(call, "inspect", address)


def test_a_connection_that_comes_back_is_not_an_error(address, served, pristine, monkeypatch):
    monkeypatch.setattr("nwb_migvis.sources.connection.PAUSE_S", 0.0)
    served.breaks_after = 1000

    def mend(_):
        served.breaks_after = None

    monkeypatch.setattr("nwb_migvis.sources.connection.time.sleep", mend)
    _same(read_session(address), read_session(pristine))


def test_a_stream_cache_that_cannot_be_is_one_line(call, address, served, tmp_path):
    (tmp_path / "file").touch()
    assert "stream cache" in _refused(call, "inspect", address, "--stream-cache", tmp_path / "file")
    served.has_state = False
    assert "no ETag" in _refused(call, "inspect", address, "--stream-cache", tmp_path)
