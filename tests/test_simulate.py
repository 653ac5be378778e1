"""The simulated session as a file: complete, reproducible, valid, and silent about its own truth."""

import h5py
import numpy as np
import pynwb
import pytest

from nwb_migvis.errors import MigvisError
from nwb_migvis.simulate import (
    draw_counts,
    draw_factors,
    draw_population,
    read_ground_truth,
    render_stimuli,
    simulate_session,
)
from nwb_migvis.simulate.render import render_masks
from nwb_migvis.simulate.spikes import draw_schedule

UNITS = {"pose": 3, "category": 0, "content": 2, "mixed": 2}
SETTINGS = {"n_stimuli": 24, "n_repeats": 3, "units": UNITS, "seed": 4}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return simulate_session(tmp_path_factory.mktemp("simulated") / "session.nwb", **SETTINGS)


@pytest.fixture(scope="module")
def nwbfile(path):
    with pynwb.NWBHDF5IO(path, "r") as io:
        yield io.read()


def arrays(path):
    """Return every dataset of a file but references and object ids, by name."""
    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset) and not h5py.check_ref_dtype(item.dtype):
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(keep)
    return {name: value for name, value in found.items() if "specifications" not in name}


def test_the_same_settings_give_the_same_arrays(path, tmp_path):
    ours, again = arrays(path), arrays(simulate_session(tmp_path / "again.nwb", **SETTINGS))
    assert ours.keys() == again.keys()
    differ = [name for name in ours if not np.array_equal(ours[name], again[name])]
    assert differ == ["file_create_date"]


def test_another_seed_gives_another_session(path, tmp_path):
    other = arrays(simulate_session(tmp_path / "other.nwb", **{**SETTINGS, "seed": 5}))
    ours = arrays(path)
    for name in ("identifier", "intervals/trials/rotation_x", "units/spike_times_index"):
        assert not np.array_equal(ours[name], other[name])


def test_images_are_the_renders_in_order(nwbfile):
    images = nwbfile.stimulus_template["images"]
    pixels = np.stack([image.data[:] for image in images.order_of_images])
    expected = render_stimuli(draw_factors(24, seed=4), seed=4)
    np.testing.assert_array_equal(pixels, expected)
    assert images.order_of_images[3].name == "im0003.png"


def test_trials_hold_one_row_a_presentation_and_agree_with_the_series(nwbfile):
    trials, series = nwbfile.trials.to_dataframe(), nwbfile.stimulus["presentations"]
    assert len(trials) == 72
    np.testing.assert_array_equal(trials["start_time"], series.timestamps[:])
    np.testing.assert_allclose(trials["stop_time"] - trials["start_time"], 0.1)
    assert trials["stimulus"].tolist() == [f"im{i:04d}.png" for i in series.data[:]]
    factors = draw_factors(24, seed=4)
    for name in ("rotation_x", "size", "category"):
        assert trials[name].tolist() == factors[name].to_numpy()[series.data[:]].tolist()


def test_ground_truth_is_no_label(nwbfile, path):
    assert set(nwbfile.trials.colnames) == {
        "start_time",
        "stop_time",
        "stimulus",
        "rotation_x",
        "rotation_y",
        "rotation_z",
        "position_x",
        "position_y",
        "size",
        "category",
    }
    assert set(nwbfile.units.colnames) == {"spike_times", "electrodes"}
    truth = read_ground_truth(path)
    factors = draw_factors(24, seed=4)
    population = draw_population(UNITS, seed=4)
    np.testing.assert_array_equal(truth["shape_1"], factors["shape_1"])
    np.testing.assert_allclose(truth["rate_hz"], population.rate_hz(factors), rtol=1e-6)
    assert truth["rate_hz"].dims == ("stimulus", "unit")
    assert truth["planted_group"].values.tolist() == ["pose"] * 3 + ["content"] * 2 + ["mixed"] * 2
    assert truth["stimulus"].values.tolist() == [f"im{i:04d}.png" for i in range(24)]
    size_px = truth.sizes["y"]
    np.testing.assert_array_equal(truth["object_mask"], render_masks(factors, size_px=size_px))
    plain = render_stimuli(factors, size_px=size_px, background="plain")
    ground = np.bincount(plain.ravel()).argmax()
    assert (plain[truth["object_mask"].values] != ground).mean() > 0.97
    assert (plain[~truth["object_mask"].values] == ground).mean() > 0.9


def test_spikes_in_the_windows_are_the_drawn_counts(nwbfile):
    rate_hz = draw_population(UNITS, seed=4).rate_hz(draw_factors(24, seed=4))
    order, _ = draw_schedule(24, 3, seed=4)
    expected = draw_counts(rate_hz, order, 0.17 - 0.07, seed=4)
    start = nwbfile.trials["start_time"][:]
    for unit in range(7):
        times = nwbfile.units["spike_times"][unit]
        assert len(times) == expected[:, unit].sum()
        counts = [((times >= s + 0.07) & (times < s + 0.17)).sum() for s in start]
        np.testing.assert_array_equal(counts, expected[:, unit])


def test_a_sorting_read_from_the_file_has_the_same_trains(path, nwbfile):
    from spikeinterface.extractors import read_nwb_sorting

    sorting = read_nwb_sorting(path, sampling_frequency=32_768.0, t_start=0.0)
    train = sorting.get_unit_spike_train(sorting.unit_ids[2], return_times=True)
    np.testing.assert_array_equal(train, nwbfile.units["spike_times"][2])


@pytest.mark.parametrize("config", [None, "dandi"])
def test_the_inspector_finds_nothing_of_importance(path, config):
    from nwbinspector import Importance, inspect_nwbfile, load_config

    messages = inspect_nwbfile(nwbfile_path=path, config=config and load_config(config))
    grave = [m for m in messages if m.importance.value >= Importance.BEST_PRACTICE_VIOLATION.value]
    assert grave == []


def test_the_file_is_valid(path):
    assert pynwb.validate(path=str(path)) == []


def test_an_existing_file_is_kept_unless_overwritten(tmp_path):
    path = tmp_path / "session.nwb"
    path.write_bytes(b"precious")
    with pytest.raises(MigvisError, match="exists already"):
        simulate_session(path, **SETTINGS)
    assert path.read_bytes() == b"precious"
    assert simulate_session(path, overwrite=True, **SETTINGS) == path
    truth = read_ground_truth(path)
    assert truth["rate_hz"].shape == (24, 7)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_everything_as_it_was(tmp_path, monkeypatch):
    def fail(io, nwbfile):
        raise OSError(28, "No space left on device")

    path = tmp_path / "session.nwb"
    path.write_bytes(b"precious")
    monkeypatch.setattr(pynwb.NWBHDF5IO, "write", fail)
    with pytest.raises(MigvisError, match="No space left"):
        simulate_session(path, overwrite=True, **SETTINGS)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_stimuli": 0}, "n_stimuli: found 0; expected a whole number of at least 1"),
        ({"n_repeats": 1.5}, "n_repeats: found 1.5"),
        ({"size_px": 7}, "size_px: found 7; expected a whole number of at least 8"),
        ({"seed": -1}, "seed: found -1"),
        ({"window_s": (0.17, 0.07)}, "window_s: found 0.17 to 0.07 s"),
        ({"window_s": (0.0, 0.3)}, "do not overlap"),
        ({"window_s": (0.1,)}, "two times in seconds"),
        ({"window_s": (float("nan"), 0.1)}, "window_s: found nan"),
        ({"units": {"pose": 0}}, "no unit"),
        ({"background": "striped"}, "background 'striped'"),
    ],
)
def test_an_impossible_setting_is_refused(tmp_path, settings, message):
    with pytest.raises(MigvisError, match=message):
        simulate_session(tmp_path / "session.nwb", **{**SETTINGS, **settings})
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_destination_is_refused(tmp_path):
    with pytest.raises(MigvisError, match="does not exist; make it"):
        simulate_session(tmp_path / "absent" / "session.nwb", **SETTINGS)
    with pytest.raises(MigvisError, match="is a folder"):
        simulate_session(tmp_path, **SETTINGS)


def test_a_file_without_ground_truth_says_so(tmp_path):
    with pytest.raises(MigvisError, match="does not exist"):
        read_ground_truth(tmp_path / "absent.nwb")
    (tmp_path / "text.nwb").write_text("no HDF5")
    with pytest.raises(MigvisError, match="does not open"):
        read_ground_truth(tmp_path / "text.nwb")
    with h5py.File(tmp_path / "plain.nwb", "w"):
        pass
    with pytest.raises(MigvisError, match="holds no table"):
        read_ground_truth(tmp_path / "plain.nwb")
