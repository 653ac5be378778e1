"""What results and settings print, and what they select."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nwb_migvis import Config, MigvisError
from nwb_migvis.config import PRESETS, GroupConfig
from nwb_migvis.groups import LatentGroups
from nwb_migvis.report import group_table
from nwb_migvis.testing import mock_results, tiny_config

RESULTS = mock_results(maps=True)
MANY = replace(
    RESULTS,
    groups=pd.concat([RESULTS.groups.rename(index=lambda name, i=i: f"{name}_{i}") for i in range(9)]),
)


@pytest.mark.parametrize(
    "results",
    [RESULTS, MANY, mock_results(without=("edits", "labels", "evidence", "stability"))],
    ids=["all", "many groups", "little"],
)
def test_results_print_in_a_dozen_lines(results):
    lines = repr(results).splitlines()
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 110
    for text in (repr(results), results._repr_html_()):
        assert "'migvis'" in text.replace("&#x27;", "'")
        assert f"{len(results.groups)} groups, 6 latents" in text
        assert str(results.groups.index[0]) in text
        assert "12 stimuli (4 train, 4 validation, 4 test)" in text
        assert "4 units" in text
        edits = results.synthesized.sizes["edit"]
        assert ("7 edits (5 main, 2 traversal) of 8 x 10 px" if edits else "no edits") in text
        if len(results.groups) > 6:
            assert "and 22 more" in text


def test_html_escapes_what_files_say():
    groups = RESULTS.groups.assign(supervised_by=["<b>a", "b", ""])
    html = replace(RESULTS, name="<script>", groups=groups)._repr_html_()
    assert "<script>" not in html and "<b>" not in html
    assert "&lt;b&gt;a" in html


def test_no_name_commands_a_terminal():
    evil = "\x1b]52;c;ZXZpbA==\x07\nwrote passwd\x9b2J\u202e"
    groups = RESULTS.groups.assign(verdict=evil, supervised_by=evil).rename(index=lambda name: name + evil)
    edits = RESULTS.synthesized.assign_coords(method=("edit", [evil] * 7), role=("edit", [evil] * 7))
    results = replace(RESULTS, name=evil, groups=groups, synthesized=edits)
    group = GroupConfig(name=evil, size=2)
    for text in (repr(results), results.table(), repr(LatentGroups.of((group,)))):
        assert all(line.isprintable() and not line.startswith("wrote") for line in text.split("\n"))


def test_the_table_is_the_printed_one():
    assert RESULTS.table() == group_table(RESULTS)
    assert RESULTS.table().startswith("Run 'migvis': latent groups, on held-out stimuli")


def test_edits_are_selected_by_what_is_given():
    edits = RESULTS.synthesized
    assert RESULTS.edits().identical(edits)
    for name in ("group", "method", "role"):
        value = str(edits[name].values[0])
        one = RESULTS.edits(**{name: value})
        assert one.identical(edits.isel(edit=np.flatnonzero(edits[name].values == value)))
        assert 0 < one.sizes["edit"] < edits.sizes["edit"]
    both = RESULTS.edits(group=["pose", "free_1"], role="main")
    assert both["group"].values.tolist() == ["pose", "free_1", "pose"]
    assert RESULTS.edits(role="dose").sizes["edit"] == 0


@pytest.mark.parametrize(
    "chosen",
    [{"group": "poses"}, {"method": "PMI"}, {"role": ["main", "mian"]}],
    ids=["group", "method", "role"],
)
def test_what_no_edit_can_have_is_refused(chosen):
    with pytest.raises(MigvisError, match=r"edits: found \w+ = '(poses|PMI|mian)'; expected some of \w"):
        RESULTS.edits(**chosen)


def test_without_edits_a_group_has_none():
    results = mock_results(without=["edits"])
    assert results.edits(group="pose", role="main").sizes["edit"] == 0
    with pytest.raises(MigvisError, match="made no edits"):
        results.edits(method="pmi")


def test_the_tree_holds_every_table_and_the_provenance():
    tree = RESULTS.to_datatree()
    tables = {"groups", "latents", "units", "synthesized", "selectivity", "decoding", "labels"}
    assert set(tree.children) == tables
    for name in set(tree.children) - {"groups"}:
        assert tree[name].to_dataset().identical(getattr(RESULTS, name))
    groups = tree["groups"].to_dataset()
    assert list(groups.data_vars) == list(RESULTS.groups.columns)
    for column in RESULTS.groups:
        assert groups[column].dtype != object
        np.testing.assert_array_equal(groups[column].values, RESULTS.groups[column].to_numpy())
    assert groups["group"].values.tolist() == list(RESULTS.groups.index)
    assert tree.attrs["name"] == RESULTS.name
    assert json.loads(tree.attrs["provenance"]) == RESULTS.provenance
    assert isinstance(tree, xr.DataTree)


@pytest.mark.parametrize("config", [*PRESETS.values(), tiny_config()], ids=[*PRESETS, "tiny"])
def test_settings_print_in_a_dozen_lines(config):
    lines = repr(config).splitlines()
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 110
    assert config.preset in lines[0]
    if config == PRESETS[config.preset]:
        assert lines[1:] == ["  no setting differs from it"]


def test_settings_print_what_differs_from_the_preset():
    config = Config.from_preset("paper")
    latents = replace(config.latents, groups=(GroupConfig(name="pose", size=2), GroupConfig(name="<i>")))
    config = replace(config, seed=7, latents=latents, prior=replace(config.prior, n_steps=5))
    assert repr(config).splitlines() == [
        "Config of preset 'paper'",
        "  seed = 7",
        "  latents: groups = [pose (2), <i> (6)]",
        "  prior: n_steps = 5",
    ]
    html = config._repr_html_()
    assert "<i>" not in html
    assert "<li>prior: n_steps = 5</li>" in html
