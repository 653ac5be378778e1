"""Figures: what they draw is what the results hold, names are text, and nothing is shown."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import nwb_migvis
from nwb_migvis import MigvisError, plot
from nwb_migvis.testing import mock_results

plt = pytest.importorskip("matplotlib.pyplot")

RESULTS = mock_results()
STIMULI = {
    name: np.full((8, 10), 9 * i, np.uint8) for i, name in enumerate(RESULTS.latents["stimulus"].values)
}
UNLABELLED = mock_results(without=["labels"])
CURVES = {"latents": {"step": [100, 200, 300], "loss": [3.0, 1.0, 2.0]}}
TRAINED = replace(RESULTS, provenance={**RESULTS.provenance, "training": CURVES})


@pytest.fixture(autouse=True)
def no_figure_stays():
    yield
    plt.close("all")


def measured_analysis(name):
    """A further analysis of two groups and two layers, one of them called so."""
    cells = {
        f"score{end}": (("group", "layer"), np.full((2, 2), 0.5)) for end in ("", "_low", "_high", "_null")
    }
    coords = {"group": [name, "b"], "layer": [name, "d"]}
    return xr.Dataset(cells, coords, attrs={"headline": ["score"], "title": name})


def named_groups(name):
    """The analysis `names` of two groups with one axis, both called so at their high ends."""
    dims = ("group", "axis", "end", "label")
    lean = np.stack([np.zeros((2, 1, 1)), np.full((2, 1, 1), 0.5)], axis=2)
    data = {"name": ("group", [name, ""]), "lean": (dims, lean), "lean_q": (dims, 0.6 - lean * 1.19)}
    data["end_name"] = (dims[:3], np.array([["", name], ["", name]])[:, None])
    coords = {"group": ["a", "b"], "axis": [1], "end": ["low", "high"], "label": ["x"]}
    return xr.Dataset(data, coords)


def placed_groups(name):
    """The analysis `places` of one group of that name, two images."""
    maps = np.zeros((1, 2, 7, 7))
    maps[:, 0, 3, 3] = 1
    data = {"map": (("group", "image", "row", "column"), maps)}
    data["picture"] = (("shown", "y", "x"), np.full((2, 8, 10), 99))
    return xr.Dataset(data, {"group": [name], "image": ["i", "j"]})


def grouped_states(name):
    """The analysis `states` of two states and one group of that name, with an image edited towards them."""
    picture = np.full((2, 1, 1, 6, 6), 80) + np.array([0, 90])[:, None, None, None, None]
    data = {
        "n_states": ((), 2),
        "share": ("state", [0.75, 0.25]),
        "dominant": ("state", [name, "b"]),
        "rate": (("state", "unit"), [[1.0, 3.0], [3.0, 3.0]]),
        "picture": (("pictured_state", "group", "source", "y", "x"), picture),
        "rebuilt_picture": (("source", "y", "x"), np.full((1, 6, 6), 40)),
    }
    return xr.Dataset(data, {"state": [0, 1], "group": [name]})


def worded_groups(name):
    """The analysis `names` of two groups with one axis, by a vocabulary alone."""
    found = named_groups(name)
    words = {"name": "group_word", "end_name": "end_word", "lean": "word_lean", "lean_q": "word_lean_q"}
    return found.rename(words | {"label": "word"})


ANALYSES = {
    "mine": measured_analysis("a"),
    "names": named_groups("large"),
    "places": placed_groups("a"),
    "states": grouped_states("a"),
}


def test_maps_are_drawn_over_their_images():
    ax = plot.places(replace(RESULTS, analyses=ANALYSES))
    assert len(ax.images) == 5 and ax.images[2].get_extent() == [0, 0.95, 1.95, 1]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["images", "a"]


def test_names_are_drawn_at_their_ends_and_groups_without_one_say_so():
    ax = plot.names(replace(RESULTS, analyses=ANALYSES))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a 1: large", "b 1: no name"]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0, 0.5, 0, 0.5])
    with pytest.raises(MigvisError, match="found no analysis 'names' to draw"):
        plot.names(RESULTS)


def test_long_names_leave_room_for_their_bars():
    long = "position_y low, rotation_y low, rotation_z high"
    ax = plot.names(replace(RESULTS, analyses={"names": named_groups(long)}))
    ax.figure.canvas.draw()  # warns where the axes have no room
    assert ax.get_position().width > 0.5


def test_words_of_a_vocabulary_are_drawn_beside_labels_or_alone():
    both = xr.merge([named_groups("large"), worded_groups("bright")])
    for found, named in ((both, "large; bright"), (worded_groups("bright"), "bright")):
        ax = plot.names(replace(RESULTS, analyses={"names": found}))
        assert [t.get_text() for t in ax.get_yticklabels()] == [f"a 1: {named}", "b 1: no name"]
        assert ax.texts[1].get_text() == named
    for found in (named_groups("x").drop_vars("lean_q"), named_groups("x").drop_vars("axis")):
        with pytest.raises(MigvisError, match="found no analysis 'names' to draw"):
            plot.names(replace(RESULTS, analyses={"names": found}))


def test_the_map_of_features_is_drawn_where_there_is_one():
    found = placed_groups("a")
    with_map = found.assign(feature_map=found["map"][..., ::-1, ::-1] + found["map"] * 0.5)
    ax = plot.places(replace(RESULTS, analyses={"places": with_map}), variable="feature_map")
    assert ax.images[2].get_array()[3, 3] == 1.5
    results = replace(RESULTS, analyses=ANALYSES)
    with pytest.raises(MigvisError, match="found no analysis 'places' to draw"):
        plot.places(results, variable="feature_map")
    with pytest.raises(MigvisError, match="found variable = 'picture'; expected 'map' or 'feature_map'"):
        plot.places(results, variable="picture")


def test_states_are_drawn_by_edits_or_by_expected_counts():
    found = grouped_states("a")
    ax = plot.states(replace(RESULTS, analyses={"states": found}))
    assert [int(image.get_array()[0, 0]) for image in ax.images] == [40, 80, 40, 170]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["none", "a"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["state 0 a (75%)", "state 1 b (25%)"]
    bare = found.drop_vars(["picture", "rebuilt_picture"])
    ax = plot.states(replace(RESULTS, analyses={"states": bare}))
    np.testing.assert_allclose(ax.images[0].get_array(), [[-1, 0], [1, 0]])
    one = plot.states(replace(RESULTS, analyses={"states": bare.isel(state=[0])}))
    np.testing.assert_allclose(one.images[0].get_array(), [[1, 3]])
    with pytest.raises(MigvisError, match="found no analysis 'states' to draw"):
        plot.states(replace(RESULTS, analyses={"states": bare.drop_vars("rate")}))


def with_dose(results):
    cells = {"pose": {"rotation_x": {"conv": {"transfer": [0.1, None], "retention": [0.9, 0.4]}}}}
    appearance = {"dose": {"strength": [0.5, 0.9], "cells": cells}}
    return replace(results, provenance={**results.provenance, "appearance": appearance})


def with_rates(results):
    """Return results whose edits are guided ones and reconstructions of pairs, with predicted rates."""
    edits = results.synthesized.copy()
    for name, values in (("group", ["pose"] * 7), ("method", ["pmi", "none"] * 3 + ["pmi"])):
        edits[name] = ("edit", values)
    edits["source"] = ("edit", np.repeat(list(STIMULI)[:4], 2)[:7])
    edits["target"] = ("edit", [list(STIMULI)[5]] * 7)
    rate = np.arange(7.0 * results.units.sizes["unit"]).reshape(7, -1)
    edits["predicted_rate"] = (("edit", "unit"), rate)
    return replace(results, synthesized=edits)


def test_predicted_changes_are_those_from_the_unguided_reconstruction():
    ax = plot.predicted(with_rates(RESULTS))
    drawn = ax.images[0].get_array()
    n_units = RESULTS.units.sizes["unit"]
    np.testing.assert_allclose(drawn[0], np.full(n_units, -float(n_units)))
    assert np.ma.getmaskarray(drawn)[1:].all() or np.isnan(np.asarray(drawn)[1:]).all()
    with pytest.raises(MigvisError, match="no predicted responses"):
        plot.predicted(UNLABELLED)


@pytest.mark.parametrize("name", plot.FIGURES)
def test_every_figure_draws_into_the_axes_it_is_given(name, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("shown"))
    results = with_dose(with_rates(TRAINED) if name == "predicted" else TRAINED)
    results = replace(results, analyses=ANALYSES)
    with plot.style():
        figure, ax = plt.subplots()
        assert getattr(results.plot, name)(ax=ax) is ax
        assert ax.has_data() or ax.texts
        figure.canvas.draw()
        own = getattr(plot, name)(results)
        assert own is not ax and own.figure is not figure


def test_pairs_hold_sources_targets_and_edits_in_rising_order():
    edits = RESULTS.synthesized.copy()
    edits["role"] = ("edit", ["dose"] * 5 + ["traversal"] * 2)
    edits["method"] = ("edit", ["pmi"] * 7)
    edits["group"] = ("edit", ["pose"] * 7)
    edits["source"] = ("edit", ["image_00.png"] * 7)
    edits["target"] = ("edit", ["image_01.png"] * 5 + [""] * 2)
    edits["strength"] = ("edit", [0.9, 0.1, 0.5, 0.7, 0.3, 0.9, 0.9])
    (pair,) = plot.pairs(replace(RESULTS, synthesized=edits), "pose", images=STIMULI)
    assert [strength for strength, _ in pair.steps] == [0.1, 0.3, 0.5, 0.7, 0.9]
    np.testing.assert_array_equal(pair.steps[0][1], edits["image"].values[1])
    np.testing.assert_array_equal(pair.before, STIMULI["image_00.png"])
    np.testing.assert_array_equal(pair.after, STIMULI["image_01.png"])
    assert pair.is_real
    (pair,) = plot.pairs(replace(RESULTS, synthesized=edits), "pose")
    assert pair.before is None and pair.after is None and not pair.is_real


def test_images_are_resized_and_of_other_channels_refused():
    large = {name: np.kron(image, np.ones((2, 2), np.uint8)) for name, image in STIMULI.items()}
    ax = plot.edit(RESULTS, 0, images=large)
    assert [image.get_array().shape for image in ax.images] == [(8, 10)] * 4
    colour = {name: np.stack([image] * 3, axis=2) for name, image in STIMULI.items()}
    with pytest.raises(MigvisError, match=r"of shape \(8, 10, 3\); expected gray values"):
        plot.edit(RESULTS, 0, images=colour)


def test_intervals_and_controls_are_those_of_the_table():
    ax = plot.transfer(RESULTS, label="category", reader="forest")
    cell = RESULTS.selectivity.sel({"label": "category", "reader": "forest", "method": "pmi"})
    segments = np.array(ax.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, 0, 0], cell["transfer_low"].values)
    np.testing.assert_allclose(segments[:, 1, 0], cell["transfer_high"].values)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), cell["transfer"].values)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["guided", "no guidance"]


def test_marks_are_filled_where_a_part_holds():
    groups = RESULTS.groups.assign(
        repeatable=[0.5, 0.5, -0.1], repeatable_low=[0.1, -0.1, np.nan], repeatable_q=[0.01, 0.01, 0.01]
    )
    ax = plot.verdicts(replace(RESULTS, groups=groups))
    filled, hollow = ax.lines[:2]
    np.testing.assert_array_equal(filled.get_xdata(), [0.5])
    np.testing.assert_array_equal(hollow.get_xdata(), [0.5, -0.1])
    with pytest.raises(MigvisError, match="verdicts have no parts"):
        plot.verdicts(mock_results(without=["evidence"]))


def test_names_of_files_are_not_mathematics(tmp_path):
    evil = r"$\frac{$ & <b>\x"
    groups = RESULTS.groups.rename(index={"pose": evil}).assign(supervised_by=[evil, "", ""])
    latents = RESULTS.latents.assign_coords(
        group=("latent", [evil if g == "pose" else g for g in RESULTS.latents["group"].values])
    )
    edits = RESULTS.synthesized.copy()
    edits["group"] = ("edit", [evil] * 7)
    edits["direction"] = ("edit", [evil] * 7)
    rename = {"group": [evil, "category", "free_1"], "label": [evil, "$b$"]}
    table = RESULTS.selectivity.assign_coords(rename | {"reader": [evil, "$c$"]})
    decoding = RESULTS.decoding.assign_coords({"group": rename["group"], "label": [evil, "a", "b"]})
    labels = RESULTS.labels.rename({"category": evil})
    labels[evil] = ("stimulus", ["$x$", evil] * 6, {})
    cells = {evil: {evil: {evil: {"transfer": [0.1, 0.2], "retention": [0.9, 0.4]}}}}
    provenance = {
        "appearance": {"dose": {"strength": [0.5, 0.9], "cells": cells}},
        "training": {evil: {"step": [1, 2], "loss": [2.0, 1.0]}},
    }
    results = replace(
        RESULTS, groups=groups, latents=latents, synthesized=edits, selectivity=table, decoding=decoding
    )
    results = replace(
        results,
        labels=labels,
        provenance=provenance,
        analyses={
            evil: measured_analysis(evil),
            "names": named_groups(evil),
            "places": placed_groups(evil),
            "states": grouped_states(evil),
        },
    )
    for name in (name for name in plot.FIGURES if name != "predicted"):
        ax = getattr(results.plot, name)(**({"label": evil} if name == "latents" else {}))
        ax.figure.savefig(tmp_path / f"{name}.svg")
        assert r"<b>" not in (tmp_path / f"{name}.svg").read_text()


def test_many_groups_and_missing_numbers_draw():
    names = [f"group_{i}_{'x' * 100}" for i in range(60)]
    groups = RESULTS.groups.iloc[[0] * 60].set_axis(names).assign(first=range(60), size=1)
    numbers = groups.select_dtypes("float").columns
    groups[numbers] = np.nan
    results = replace(RESULTS, groups=groups)
    for name in ("variance", "verdicts", "loadings"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ax = getattr(results.plot, name)()
            ax.figure.canvas.draw()
        assert len(ax.get_yticklabels()) <= 41


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda r: r.plot.latents(group="poze"), r"group 'poze'; .* \(did you mean 'pose'\?\)"),
        (lambda r: r.plot.latents(label="categry"), r"label 'categry'; .* \(did you mean 'category'\?\)"),
        (lambda r: r.plot.transfer(reader="x"), "reader 'x'; expected one of conv, forest"),
        (lambda r: r.plot.edit(7), "edit 7; expected a row of the run's 7 edits"),
        (lambda r: r.plot.edits(group="free_1"), "no edits between stimuli"),
        (lambda r: r.plot.training(), "no training curves"),
        (lambda r: r.plot.dose(), "no edits at rising strengths"),
        (
            lambda r: UNLABELLED.plot.decoding(),
            "no decoding",
        ),
        (lambda r: UNLABELLED.plot.transfer(), "no label in its edits"),
        (lambda r: mock_results(without=["edits"]).plot.traversal(), "no traversals"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, said):
    with pytest.raises(MigvisError, match=said):
        draw(RESULTS)


def test_figures_are_methods_of_results():
    assert set(plot.FIGURES) <= set(dir(RESULTS.plot))
    assert nwb_migvis.plot is plot
    assert RESULTS.plot.latents.__doc__ == plot.latents.__doc__
    with pytest.raises(AttributeError, match="there is no figure 'nothing'"):
        _ = RESULTS.plot.nothing


def test_a_notebook_shows_a_strip_of_edits():
    html = RESULTS._repr_html_()
    guided = int((RESULTS.synthesized["method"].values == "pmi").sum())
    assert html.count('<img src="data:image/png;base64,') == guided > 0
    assert "<img" not in mock_results(without=["edits"])._repr_html_()


def drawn_analysis(dataset, **choices):
    return plot.analysis(replace(RESULTS, analyses={"mine": dataset}), **choices)


def test_an_analysis_that_names_a_single_number_first_is_drawn_by_what_has_an_axis():
    data = {"n": ((), 2), "empty": ("x", [np.nan, np.nan]), "share": ("x", [0.25, 0.75])}
    ax = drawn_analysis(xr.Dataset(data, {"x": ["a", "b"]}, {"headline": ["n", "empty", "share"]}))
    assert ax.get_xlabel() == "share"


def test_a_variable_without_any_value_is_refused():
    data = xr.Dataset({"empty": ("x", [np.nan, np.nan])}, {"x": ["a", "b"]}, {"headline": ["empty"]})
    with pytest.raises(MigvisError, match="found no value of 'empty' in 'mine'"):
        drawn_analysis(data)


def test_numbered_places_are_a_matrix():
    cells = np.arange(12.0).reshape(3, 4)
    ax = drawn_analysis(xr.Dataset({"carried": (("row", "column"), cells)}, attrs={"headline": ["carried"]}))
    np.testing.assert_allclose(ax.images[0].get_array(), cells / 11)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("column", "row")


@pytest.mark.parametrize("n_rows", [2, 12])
def test_legends_are_inside_the_figure_and_below_the_axis(n_rows):
    names = [f"a label of {i} with a long name" for i in range(7)]
    coords = {"group": [f"group {i}" for i in range(n_rows)], "label": names}
    data = xr.Dataset({"told": (("group", "label"), np.ones((n_rows, 7)))}, coords, {"headline": ["told"]})
    ax = drawn_analysis(data)
    ax.figure.canvas.draw()
    box, whole = ax.get_legend().get_window_extent(), ax.figure.bbox
    assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and box.y0 >= whole.y0 - 1
    assert box.y1 <= ax.xaxis.label.get_window_extent().y0 + 1


def test_counts_of_a_single_state_have_colours_from_none_to_the_largest():
    one = grouped_states("a").drop_vars("picture").isel(state=[0])
    ax = plot.states(replace(RESULTS, analyses={"states": one}))
    assert ax.images[0].get_clim() == (0, 3)


def test_of_several_sessions_the_first_is_drawn_and_named():
    several = xr.concat(
        [placed_groups("a"), placed_groups("a")], xr.Variable("session", ["s1.nwb", "s0.nwb"])
    )
    ax = plot.places(replace(RESULTS, analyses={"places": several}))
    assert ax.get_title(loc="left") == "Places in images: s1.nwb"


def test_the_title_of_states_is_inside_the_figure_and_crowded_numbers_are_not_written():
    states = grouped_states("a")
    ax = plot.states(replace(RESULTS, analyses={"states": states}))
    ax.figure.canvas.draw()
    assert max(text.get_window_extent().x1 for text in (ax.title, ax._left_title)) <= ax.figure.bbox.x1
    wide = xr.Dataset({"rate": (("state", "unit"), np.ones((2, 24)))}, attrs={"headline": ["rate"]})
    assert not drawn_analysis(wide).texts and drawn_analysis(wide.isel(unit=slice(9))).texts


def test_axes_of_numbers_say_what_they_count():
    cells = xr.Dataset({"left": (("n_repeats", "fraction"), np.ones((2, 2)))}, attrs={"headline": ["left"]})
    ax = drawn_analysis(cells.assign_coords(n_repeats=[1, 2], fraction=[0.1, 0.3]))
    assert ax.get_ylabel() == "n repeats"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["fraction 0.1", "fraction 0.3"]
