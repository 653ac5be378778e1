"""Further edits from a written file: the same bits as the run's own, added whole, refused early."""

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from nwb_migvis import Config, MigvisError, read_results, run, simulate_session, synthesize_more
from nwb_migvis.cli import main
from nwb_migvis.config import (
    METHODS,
)
from nwb_migvis.read.recorded import read_shown
from nwb_migvis.runs import Reproduction, reproduce
from nwb_migvis.runs.models import edit_networks
from nwb_migvis.runs.more_edits import make_further
from nwb_migvis.store import read_weights, validate_file
from nwb_migvis.synthesis.editing.request import EditRequest
from nwb_migvis.testing import tiny_config

pytestmark = pytest.mark.slow

TINY = tiny_config(
    latents={"n_steps": 40, "n_hidden": 16},
    prior={"n_steps": 3},
    critic={"n_steps": 5},
    synthesis={
        "limit_traversals": False,
        "n_pairs": 8,
        "n_dose": 8,
        "n_samples": 5,
        "gammas": [-1.0, 1.0],
        "directions": ["ones", "pc1", "size"],
        "methods": METHODS,
        "maps": True,
        "batch_size": 8,
    },
    evidence={"n_permutations": 9, "n_bootstrap": 9, "stability_seeds": 0, "reader_steps": 3},
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("further")
    units = {"pose": 4, "category": 4, "content": 2, "mixed": 2}
    simulate_session(folder / "session.nwb", seed=1, n_stimuli=100, n_repeats=2, size_px=16, units=units)
    results = run(folder / "session.nwb", out=folder / "out.nwb", config=TINY)
    return folder, results


@pytest.fixture
def written(home, tmp_path):
    return shutil.copy(home[0] / "out.nwb", tmp_path / "out.nwb")


def chosen(edits, **wanted):
    return edits.isel(edit=np.flatnonzero(np.all([edits[k].values == v for k, v in wanted.items()], axis=0)))


def test_edits_of_the_run_come_out_the_same_bit_for_bit(home, written):
    _, results = home
    theirs = chosen(results.synthesized, group="category", method="pmi", role="main")
    n = theirs.sizes["edit"]
    for i in (0, 5):
        pair = {end: str(theirs[end].values[i]) for end in ("source", "target")}
        more = synthesize_more(written, group="category", **pair, strength=0.95, in_place=True)
        new = more.synthesized.isel(edit=slice(-1, None))
        assert (new["role"].item(), new["method"].item()) == ("further", "pmi")
        for name in ("image", "map", "critic_map", "score_before", "score_after"):
            np.testing.assert_array_equal(new[name].values[0], theirs[name].values[i])
    assert n == 8
    again = read_results(written)
    first = results.synthesized.sizes["edit"]
    assert again.synthesized.sizes["edit"] == first + 2
    stored = read_results(home[0] / "out.nwb").synthesized
    assert again.synthesized.isel(edit=slice(0, first)).identical(stored)
    assert [record["edits"] for record in again.provenance["further_edits"]] == [
        [first, first + 1],
        [first + 1, first + 2],
    ]
    assert read_weights(written) == read_weights(home[0] / "out.nwb")
    assert [f for f in validate_file(written) if f.importance != "best_practice_suggestion"] == []


def test_traversals_of_the_run_come_out_the_same(home, written, tmp_path):
    _, results = home
    theirs = chosen(results.synthesized, group="numeric", role="traversal")
    source = str(theirs["source"].values[0])
    theirs = chosen(theirs, source=source)
    more = synthesize_more(
        written,
        group="numeric",
        source=source,
        gamma=(-1.0, 1.0),
        direction=("ones", "pc1", "size"),
        out=tmp_path / "new.nwb",
    )
    new = more.synthesized.isel(edit=slice(results.synthesized.sizes["edit"], None))
    assert new["direction"].values.tolist() == theirs["direction"].values.tolist()
    assert set(new["role"].values) == {"traversal"}
    np.testing.assert_array_equal(new["image"], theirs["image"])


@pytest.fixture(scope="module")
def make(home):
    """Make edits without writing them."""
    path = home[0] / "out.nwb"
    results = read_results(path)
    weights, session = read_weights(path), read_shown(path, results)
    config = Config.from_dict(results.provenance["config"])
    networks = edit_networks(weights, config)
    return lambda **asked: make_further(EditRequest(**asked), results, session, networks, config=config)


def test_what_is_not_given_is_drawn_from_held_out_stimuli(home, make):
    latents = home[1].latents
    split = dict(zip(latents["stimulus"].values, latents["split"].values, strict=True))
    drawn = make(group=("category", "free_1"), n=3)
    assert drawn.sizes["edit"] == 6
    assert {split[name] for end in ("source", "target") for name in drawn[end].values} == {"test"}
    assert drawn.identical(make(group=("category", "free_1"), n=3))
    assert not drawn["source"].equals(make(group=("category", "free_1"), n=3, seed=5)["source"])


def test_what_is_named_twice_is_made_once_and_numpy_numbers_are_numbers(home):
    names = home[1].latents["stimulus"].values
    twice = EditRequest(
        group=("category", "category"), source=names[[0, 0]], strength=np.float32(0.5), n=np.int64(2)
    )
    assert (twice.group, twice.source, twice.strength) == (("category",), (str(names[0]),), (0.5,))


def test_stimuli_that_are_given_come_first_at_every_strength(home, make):
    latents = home[1].latents
    trained = str(latents["stimulus"].values[latents["split"].values == "train"][0])
    given = make(group=("category",), source=(trained,), target=(trained,), n=3, strength=(0.5, 0.9))
    assert given["strength"].values.tolist() == [0.5] * 3 + [0.9] * 3
    assert set(given["source"].values) == {trained}
    assert given["target"].values[0] == trained
    assert len(set(given["target"].values)) == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"group": "categry"}, "group 'categry' is unknown; .* such as category"),
        ({"source": "im0000"}, "stimulus 'im0000' is unknown; .* im0000.png"),
        ({"target": "im00000.png"}, "stimulus 'im00000.png' is unknown"),
        ({"strength": 0.0}, "strength is 0; expected more than 0"),
        ({"strength": 1.01}, "strength is 1.01; expected more than 0"),
        ({"strength": 0.001}, "3 steps do not fit .* or a strength of 0.003 or more"),
        ({"strength": None}, "strength is None; expected a number"),
        ({"strength": "0.5"}, "strength is '0.5'; expected a number"),
        ({"group": 3}, "group is 3; expected text"),
        ({"direction": "pc1"}, "found direction 'pc1' without gamma"),
        ({"gamma": 1.0, "direction": "pc9"}, "group 'category' has 6 latents; expected pc1 to pc6"),
        ({"n": 1.5}, "n is 1.5; expected a whole number"),
        ({"n": 21}, "n is 21; expected at most 20: no more stimuli were held out"),
        ({"source": "im0001.png", "n": 1000}, "n is 1000; expected at most .* can be targets of im0001.png"),
        ({"source": "im0001.png", "target": ("im0002.png", "im0003.png"), "n": 1}, "at least 2, the targets"),
        ({"seed": -1}, "seed is -1; expected 0 or more"),
        ({"seed": 2**63}, "seed is 9223372036854775808; expected 0 or more, below"),
        ({"gamma": float("nan")}, "gamma is nan"),
        ({"gamma": 1.0, "direction": "sise"}, "direction 'sise' is unknown; expected one such as size"),
        ({"gamma": 1.0, "target": "im0001.png"}, "found both target and gamma"),
        ({"n": 0}, "n is 0"),
        ({"group": ()}, "found no group"),
        ({"device": "warp"}, "found device = 'warp'"),
        ({"batch_size": 0}, "found batch_size = 0"),
        ({"name": "other"}, "found no run 'other'"),
    ],
)
def test_requests_that_cannot_be_met(asked, message, written, tmp_path):
    before = written.read_bytes()
    with pytest.raises(MigvisError, match=message):
        synthesize_more(written, **{"group": "category", "out": tmp_path / "new.nwb"} | asked)
    assert written.read_bytes() == before
    assert not (tmp_path / "new.nwb").exists()


def test_an_output_that_exists_is_kept(written, tmp_path):
    taken = tmp_path / "taken.nwb"
    taken.write_bytes(b"mine")
    with pytest.raises(MigvisError, match="exists already"):
        synthesize_more(written, group="category", n=1, out=taken)
    assert taken.read_bytes() == b"mine"


def test_weights_that_are_absent_or_others(written, tmp_path):
    with h5py.File(written, "r+") as file:
        recorded = json.loads(file["analysis/migvis/model"].attrs["digests"])
        recorded["weights"]["critic"] = "0" * 64
        file["analysis/migvis/model"].attrs["digests"] = json.dumps(recorded)
    with pytest.raises(MigvisError, match=r"weights of the critic .* expected 000000000000"):
        synthesize_more(written, group="category", n=1, out=tmp_path / "new.nwb")
    with h5py.File(written, "r+") as file:
        file["analysis/migvis/model/prior"][-1] ^= 1
    with pytest.raises(MigvisError, match="the weights are damaged"):
        synthesize_more(written, group="category", n=1, out=tmp_path / "new.nwb")
    with h5py.File(written, "r+") as file:
        del file["analysis/migvis/model/prior"]
    with pytest.raises(MigvisError, match="holds no weights of the prior"):
        synthesize_more(written, group="category", n=1, out=tmp_path / "new.nwb")


def test_images_that_are_not_the_runs(written, tmp_path):
    with h5py.File(written, "r+") as file:
        images = file["stimulus/templates"]
        folder = next(iter(images.values()))
        folder.move("im0003.png", "renamed.png")
    with pytest.raises(MigvisError):
        synthesize_more(written, group="category", n=1, out=tmp_path / "new.nwb")


def test_the_command_line_makes_edits_and_fails_in_one_line(home, written, capsys):
    edits = home[1].synthesized
    source, target = str(edits["source"].values[0]), str(edits["target"].values[0])

    def call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main(["synthesize", str(written), *arguments])
        printed = capsys.readouterr()
        return stopped.value.code, printed.out, printed.err

    pair = ("--source", source, "--target", target, "--strength", "0.9")
    code, printed, errors = call("--group", "category", *pair, "--n", "2", "--quiet")
    new = written.with_name("out_migvis.nwb")
    assert (code, errors) == (0, "")
    assert printed.startswith("2 edits made") and printed.endswith(f"wrote {new}\n")
    assert read_results(new).synthesized.sizes["edit"] == edits.sizes["edit"] + 2
    code, printed, errors = call("--group", "catgory", *pair)
    assert (code, printed) == (1, "")
    assert len(errors.strip().splitlines()) == 1
    assert call(*pair)[0] == 2


def test_the_run_says_what_its_edits_look_like(home):
    folder, results = home
    appearance = results.provenance["appearance"]
    assert set(appearance["memorisation"]) == {"held_out", "samples", *METHODS}
    assert appearance["memorisation"]["samples"]["n"] == 5
    assert set(appearance["feature_transfer"]["category"]) == set(METHODS)
    assert set(appearance["frechet"]) == {"conv", "kernel"}
    assert appearance["dose"]["strength"] == [0.5, 0.9]
    assert set(appearance["dose"]["cells"]["free_1"]["size"]) == {"conv", "kernel"}
    assert set(appearance["start"]) == set(results.groups.index)
    assert set(appearance["extremes"]["free_1"]) == {"ones", "pc1", "size"}
    assert read_results(folder / "out.nwb").provenance["appearance"] == appearance


def test_a_direction_that_the_session_has_not_is_refused_before_training(home, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "nwb_migvis.synthesis.critic.training.train_critic",
        lambda *_, **__: pytest.fail("trained before checking"),
    )
    config = replace(TINY, synthesis=replace(TINY.synthesis, directions=("sise",)))
    with pytest.raises(MigvisError, match="direction 'sise'"):
        run(home[0] / "session.nwb", out=tmp_path / "o.nwb", config=config)


def test_all_edits_of_a_run_are_made_again_from_its_file(home, written, call):
    n = home[1].synthesized.sizes["edit"]
    assert reproduce(written) == Reproduction(n, n, 0, 0)
    with h5py.File(written, "r+") as file:
        image = file["analysis/migvis/synthesized_images/image"]
        image[3, 0, 0] = image[3, 0, 0] ^ 5
    done = reproduce(written)
    assert done.n_different == 1 and 3 <= done.largest_difference <= 5
    code, printed, errors = call("reproduce", written)
    assert code == 0, errors
    assert f"{n} of {n} edits made again: 1 differ, by at most " in printed
