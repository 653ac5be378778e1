"""What a file claims to hold is bounded by its size: refused in one line, before memory is asked for."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from examples import example_results
from layouts import index_series, optical_series

from nwb_migvis import MigvisError, inspect_session, memory, memory_limit, read_results, read_session
from nwb_migvis.cli import cli
from nwb_migvis.memory import check_memory, most_bytes
from nwb_migvis.read import pixels, recorded, sizes
from nwb_migvis.read.pixels import BACKGROUND, scaled
from nwb_migvis.report import figures
from nwb_migvis.store import validate_file, write_results

GIB = 2**30


def claim(path: Path, place: str, shape: tuple[int, ...]) -> None:
    """Put a dataset of another shape, of which no byte is stored, in the place of one."""
    with h5py.File(path, "r+") as file:
        old = file[place]
        attributes, dtype = dict(old.attrs), old.dtype
        del file[place]
        new = file.create_dataset(
            place, shape, dtype, chunks=tuple(min(n, 1000) for n in shape), compression="gzip"
        )
        new.attrs.update(attributes)
        if place == "units/spike_times":
            file["units/spike_times_index"].attrs["target"] = new.ref
        elif place == IMAGE:
            file["stimulus/templates/images/order_of_images"][0] = new.ref


IMAGE = "stimulus/templates/images/image_00.png"
CLAIMS = {
    "spikes": ("units/spike_times", (10**12,), "units/spike_times is said to hold 8000000000000 bytes"),
    "units": ("units/spike_times_index", (10**9,), "Columns must be the same length"),
    "presentations": (
        "stimulus/presentation/presentations/data",
        (10**10,),
        "/data is said to hold 40000000000 bytes",
    ),
    "an image": (IMAGE, (100_000, 100_000), "image_00.png is said to hold 10000000000 bytes"),
    "an order of images": ("stimulus/templates/images/order_of_images", (10**10,), "Invalid HDF5 object"),
}


@pytest.mark.parametrize(("place", "shape", "message"), CLAIMS.values(), ids=CLAIMS)
def test_what_has_no_bytes_is_refused_before_it_is_read(session, place, shape, message):
    claim(session, place, shape)
    with pytest.raises(MigvisError, match=message) as caught:
        inspect_session(session)
    assert "\n" not in str(caught.value)
    findings = [f for f in validate_file(session) if f.location == f"/{place}"]
    assert [f.importance for f in findings] == ["error"] and "is said to hold" in findings[0].message


def test_a_movie_of_no_bytes_is_refused_before_its_frames_are_listed(tmp_path):
    path = optical_series(tmp_path / "a.nwb").path
    claim(path, "stimulus/presentation/StimulusPresentation/data", (10**9, 4, 4, 3))
    with pytest.raises(MigvisError, match="is said to hold 48000000000 bytes"):
        inspect_session(path)


def test_data_in_other_files_may_not_claim_more_than_the_memory(session):
    with h5py.File(session, "r+") as file:
        attributes = dict(file["units/spike_times"].attrs)
        del file["units/spike_times"]
        layout = h5py.VirtualLayout((10**12,), "f8")
        layout[:10] = h5py.VirtualSource("nothing.h5", "x", (10,))
        file.create_virtual_dataset("units/spike_times", layout)
        file["units/spike_times"].attrs.update(attributes)
    with pytest.raises(
        MigvisError, match=r"spike_times would take 8e\+03 GB of memory; expected at most 0\.537"
    ):
        inspect_session(session)
    with h5py.File(session) as file, memory_limit(1e14):
        sizes.check_pieces(file["units/spike_times"])


def test_the_limit_goes_by_the_size_of_the_file_or_is_what_is_allowed():
    assert (most_bytes(1), most_bytes(GIB)) == (GIB // 2, 50 * GIB)
    check_memory("x", 50 * GIB, file_bytes=GIB)
    with pytest.raises(
        MigvisError, match=r"x would take 53\.7 GB .* 53\.7 GB .* --max-memory \(memory_limit\)"
    ):
        check_memory("x", 50 * GIB + 1, file_bytes=GIB)
    with memory_limit(10):
        assert most_bytes(GIB) == 10
        with memory_limit(None):
            assert most_bytes(1) == GIB // 2
    assert most_bytes(1) == GIB // 2
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(MigvisError, match="expected more than 0"), memory_limit(wrong):
            pass


def test_counts_of_many_units_and_presentations_are_bounded(session):
    n_bytes = 8 * len(read_session(session)["unit"]) * len(read_session(session)["presentation"])
    with memory_limit(n_bytes):
        read_session(session)
    with (
        memory_limit(n_bytes - 1),
        pytest.raises(MigvisError, match=r"counting 4 units in .* presentations would"),
    ):
        read_session(session)


def test_one_long_text_in_many_rows_is_counted_as_often(tmp_path, monkeypatch):
    text, n = "x" * 10_000, 2000
    monkeypatch.setattr(sizes, "SMALL_BYTES", 2**16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        one = file.create_dataset("one", (1,), h5py.string_dtype(), chunks=(1,))
        one[0] = text
        file.flush()
        elements = one.id.read_direct_chunk((0,))[1] * n
        plain = file.create_dataset("plain", (n,), h5py.string_dtype(), chunks=(n,))
        plain.id.write_direct_chunk((0,), elements)
        packed = file.create_dataset("packed", (n,), h5py.string_dtype(), chunks=(n,), compression="gzip")
        packed.id.write_direct_chunk((0,), zlib.compress(elements))
        contiguous = file.create_dataset("contiguous", data=[text] * 50, dtype=h5py.string_dtype())
        assert contiguous.chunks is None
    with h5py.File(tmp_path / "a.h5") as file:
        for name, n_rows in (("plain", n), ("packed", n), ("contiguous", 50)):
            assert file[name].asstr()[n_rows - 1] == text
            with memory_limit(n_rows * len(text)):
                assert len(sizes.whole(file[name])) == n_rows
            with (
                memory_limit(n_rows * len(text) - 1),
                pytest.raises(MigvisError, match=f"/{name} would take"),
            ):
                sizes.whole(file[name])


def test_long_notes_are_no_labels_and_long_names_no_images(tmp_path, monkeypatch):
    notes = ["x" * 5000, *["short"] * 11]
    path = index_series(tmp_path / "a.nwb", trials={"note": notes}).path
    found = read_session(path, window_s=(0.05, 0.15))
    assert found.attrs["not_labels"]["note"] == "text of up to 5000 characters"
    assert "note" not in found.coords
    monkeypatch.setattr("nwb_migvis.read.assembly.MOST_TEXT", 3)
    with pytest.raises(MigvisError, match="an image has a name of 4 characters; expected at most 3"):
        read_session(path, window_s=(0.05, 0.15))


def test_pixels_are_converted_in_blocks_to_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    values, colour = rng.random((37, 11)), rng.integers(0, 256, (37, 11, 4), dtype=np.uint8)
    alpha = colour[..., -1:].astype(np.float64) / 255
    blended = np.rint(colour[..., :-1] * alpha + BACKGROUND * (1 - alpha)).astype(np.uint8)
    for most in (1, 100, 10**6):
        monkeypatch.setattr(pixels, "_BLOCK_VALUES", most)
        np.testing.assert_array_equal(scaled(values, 255.0), np.rint(values * 255).astype(np.uint8))
        np.testing.assert_array_equal(pixels._on_gray(colour), blended)
    assert scaled(np.empty((0, 5)), 1.0).shape == (0, 5)


def test_large_images_are_made_small_a_few_at_a_time(session, monkeypatch):
    image = read_session(session)["image"]
    expected = recorded.small_images(image, 4)
    read = []
    original = pixels.ImageStack.read_rows
    monkeypatch.setattr(
        pixels.ImageStack, "read_rows", lambda self, rows: read.append(len(rows)) or original(self, rows)
    )
    monkeypatch.setattr(recorded, "_CHUNK_BYTES", 2 * 8 * 10)
    np.testing.assert_array_equal(recorded.small_images(read_session(session)["image"], 4), expected)
    assert max(read) == 2 and sum(read) == image.sizes["stimulus"]


def test_a_figure_holds_small_images_and_not_too_many(session, monkeypatch):
    results = example_results()
    results.synthesized["role"] = results.synthesized["role"].astype("<U9")
    results.synthesized["role"][:] = "dose"
    results.provenance["reading"] = {}
    written = write_results(results, source=session)
    monkeypatch.setattr(figures, "_MOST_PX", 5)
    pairs = [(str(s), str(s)) for s in results.latents["stimulus"].values[:2]]
    stimuli, are_real = figures._stimuli(written, results, [*pairs, ("nothing", "")], None)
    assert are_real and {image.shape for image in stimuli.values()} == {(4, 5)} and len(stimuli) == 2
    monkeypatch.setattr(figures, "_MOST_PLACES", 5)
    with pytest.raises(
        MigvisError, match=r"3 groups at 1 strengths, \d+ images; expected at most 5 in a figure"
    ):
        figures.draw_edits(written, out=session.with_name("a.png"))


def test_the_commands_take_the_limit(session):
    written = write_results(example_results(), source=session)
    for command in ("inspect", "report", "validate"):
        done = CliRunner().invoke(cli, [command, str(written), "--max-memory", "1e-6"])
        said = done.output + str(done.exception)
        assert done.exit_code == 1 and "--max-memory" in said, said
    assert CliRunner().invoke(cli, ["inspect", str(written), "--max-memory", "0.01"]).exit_code == 0
    assert CliRunner().invoke(cli, ["inspect", str(written), "--max-memory", "0"]).exit_code == 2
    with (
        memory_limit(1000),
        pytest.raises(MigvisError, match="expected at most 1000; allow more with --max-memory"),
    ):
        read_results(written)
    assert memory.most_bytes(1) == GIB // 2
