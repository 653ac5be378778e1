"""The page about results: it says what the file holds, loads nothing, and obeys no name in a file."""

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from browser import axe_script, needs_browser, opened
from examples import example_results, with_unit_rows

from nwb_migvis import Config, MigvisError, Study, read_results
from nwb_migvis.config import EvidenceConfig, GroupConfig, LatentsConfig
from nwb_migvis.read.places import Recording
from nwb_migvis.report import analyses as report_analyses
from nwb_migvis.report import page as report_page
from nwb_migvis.report import write_groups, write_report
from nwb_migvis.report.again import command, settings
from nwb_migvis.report.charts import chart as real
from nwb_migvis.report.page import Source
from nwb_migvis.report.sentences import claims
from nwb_migvis.results import OPTIONAL_GROUP_COLUMNS, PART_COLUMNS, PARTS
from nwb_migvis.store import write_results
from nwb_migvis.testing import mock_results, mock_session
from nwb_migvis.testing.results import MOCK_STIMULI

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

FROZEN = Path(__file__).parent / "data" / "frozen_0_1_0.nwb"
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}${7*7}$\x1b[2J"


class Seen(HTMLParser):
    """Tags with their attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def with_pairs(results, *, n_pairs=3, strengths=(0.5, 0.9), size=None):
    """Return results whose edits are pairs at rising strength of each group, with traversals and controls."""
    edits = results.synthesized
    image = edits["image"].values
    rows = []
    for group in results.groups.index:
        for k in range(n_pairs):
            pair = {"group": group, "source": MOCK_STIMULI[k], "target": MOCK_STIMULI[k + 4], "gamma": 0.0}
            rows += [{**pair, "role": "dose", "strength": s, "method": "pmi"} for s in strengths]
            rows += [
                {**pair, "role": "main", "strength": 0.9, "method": m} for m in ("pmi", "none", "shuffled")
            ]
            way = {"target": "", "role": "traversal", "strength": 0.9, "direction": "ones", "method": "pmi"}
            rows += [{**pair, **way, "gamma": g} for g in (-2.0, 2.0)]
    table = {"direction": "", "guidance": 0.3, "seed": 1, "score_before": 0.0, "score_after": 1.0}
    table = pd.DataFrame([{**table, "support": 50.0, **row} for row in rows])
    shape = image.shape[1:] if size is None else (size, size, *image.shape[3:])
    pixels = np.random.default_rng(0).integers(0, 256, (len(rows), *shape), dtype=np.uint8)
    coords = {name: ("edit", table[name].to_numpy(edits[name].dtype.type)) for name in edits.coords}
    coords |= {
        name: ("edit", table[name].to_numpy(str)) for name in edits.coords if edits[name].dtype.kind in "OU"
    }
    new = edits.drop_vars(list(edits.coords)).isel(edit=[0] * len(rows))
    new = new.drop_vars("image").assign(image=(edits["image"].dims, pixels)).assign_coords(coords)
    return replace(results, synthesized=new)


@pytest.fixture(scope="module")
def written(pristine, tmp_path_factory) -> Path:
    results = with_pairs(example_results())
    results.provenance["reading"] = {"window_s": [0.07, 0.17]}
    out = tmp_path_factory.mktemp("report") / "results.nwb"
    return write_results(results, source=pristine, out=out)


@pytest.fixture(scope="module")
def page(written) -> Path:
    return write_report(written)


@pytest.fixture(scope="module")
def both(written, tmp_path_factory) -> Path:
    return write_report([written, written], out=tmp_path_factory.mktemp("both") / "both.html")


def test_a_page_holds_everything_and_loads_nothing(page, written):
    text = page.read_text(encoding="utf-8")
    assert page == written.with_name("results_report.html")
    seen = Seen(text)
    for tag, attributes in seen.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("data:", "#")), (tag, attributes)
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
        if tag == "img":
            assert attributes["alt"]
    assert "inferior temporal cortex" in text and "Macaca mulatta" in text
    for word in ("rotation_x", "established", "Edits at rising strength", "Along ones", "arXiv 2510.02182"):
        assert word in text
    assert "nwb-migvis run" in unescape(text)
    assert [tag for tag, _ in seen.tags].count("section") >= 3 + len(PARTS)


def test_a_page_shows_the_first_pairs_with_every_strength(page, written):
    results = read_results(written)
    text = page.read_text(encoding="utf-8")
    assert text.count('class="step"') == 3 * 3 * 2
    assert "3 of 3 pairs" in text and "3 of 3 sources" in text
    assert f"{results.synthesized.sizes['y']} × {results.synthesized.sizes['x']} px" in text


def test_sentences_say_which_parts_hold():
    groups = mock_results().groups
    groups = groups.assign(**dict.fromkeys(PART_COLUMNS, np.nan))
    decoded = {"decoded": 0.98, "decoded_low": 0.97, "decoded_high": 0.99, "decoded_q": 0.01}
    shown = {"shown": 0.97, "shown_low": 0.91, "shown_high": 1.0, "shown_q": 0.01}
    for name, value in {**decoded, **shown, "stable": -0.1, "stable_q": 0.9, "stability": 0.84}.items():
        groups.loc["category", name] = value
    groups["verdict"] = ["confounded with time: x", "established: decoded", "not measured: all"]
    pose, category, free = claims(replace(mock_results(), groups=groups))
    assert (pose.state, category.state, free.state) == ("confounded", "established", "not measured")
    assert category.text.startswith("encodes category: decoded, 0.98 [0.97, 0.99] beyond other labels")
    assert "shown by edits (transfer 0.97 [0.91, 1.00], pose kept" in category.text
    assert "not stable over seeds (similarity 0.84, -0.10 above strangers) [q 0.9]" in category.text
    assert pose.text.startswith("confounded with time: x")
    assert "established" not in free.text


def test_permuted_stimuli_establish_nothing_and_true_ones_something():
    session = mock_session(size_px=None, n_stimuli=120, n_repeats=6)
    rng = np.random.default_rng(0)
    permuted = session.assign(
        stimulus_index=("presentation", rng.permutation(session["stimulus_index"].values))
    )
    groups = (GroupConfig(name="category", labels=("category",), size=3), GroupConfig(name="free_1", size=3))
    config = Config(
        n_threads=1,
        latents=LatentsConfig(groups=groups, n_steps=200, n_hidden=32),
        evidence=EvidenceConfig(n_permutations=99, n_bootstrap=49, stability_seeds=0),
    )
    states = {}
    for name, one in (("true", session), ("permuted", permuted)):
        study = Study(one, config)
        study.fit_latents()
        study.measure()
        states[name] = [claim.state for claim in claims(study.results)]
    assert states["true"][0] == "established"
    assert "established" not in states["permuted"]


def _hostile(results):
    """Return results in which every text is hostile."""
    names = [f"{EVIL}{i}" for i in range(3)]
    groups = results.groups.set_axis(names).assign(
        supervised_by=[EVIL, EVIL, ""], verdict=["established: " + EVIL, EVIL, ""]
    )
    latents = results.latents.assign_coords(group=("latent", np.repeat(names, groups["size"])))
    edits = results.synthesized.copy()
    edits["group"] = ("edit", np.resize(names, edits.sizes["edit"]))
    edits["direction"] = ("edit", np.where(edits["role"].values == "traversal", EVIL, ""))
    provenance = {
        **results.provenance,
        "notes": [EVIL],
        "inputs": [{"path": EVIL, "sha256": EVIL}],
        "versions": {EVIL: EVIL},
        "device": EVIL,
        "reading": {"where": EVIL, "window_s": [EVIL]},
        "appearance": {
            "dose": {"strength": [0.5, "x"], "cells": {EVIL: [1]}},
            "extremes": {names[0]: {EVIL: {"bottom": [EVIL, 3], "top": EVIL}}},
        },
        "training": {EVIL: {"step": [1, 2], "loss": [1, None]}, "x": {"step": 3}, "y": []},
        "times": {"seconds": {EVIL: EVIL}, "finished": EVIL},
    }
    changed = replace(results, groups=groups, latents=latents, synthesized=edits, provenance=provenance)
    return replace(changed, name="evil", selectivity=mock_results(without=["labels"]).selectivity)


def test_no_text_of_a_file_acts_on_the_page(pristine, tmp_path, page):
    results = with_unit_rows(_hostile(with_pairs(mock_results())))
    path = write_results(results, source=pristine, out=tmp_path / "evil.nwb")
    text = write_report(path).read_text(encoding="utf-8")
    seen, plain = Seen(text), Seen(page.read_text(encoding="utf-8"))
    assert sorted({tag for tag, _ in seen.tags}) == sorted({tag for tag, _ in plain.tags})
    assert [tag for tag, _ in seen.tags].count("script") == 1
    for tag, attributes in seen.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert "{{ 7*7 }}" in text and "<script>alert" not in text and "\x1b" not in text


@pytest.mark.parametrize(
    "results",
    [
        mock_results(without=("edits", "labels", "evidence", "stability")),
        replace(
            mock_results(without=["edits"]),
            groups=mock_results().groups.assign(
                **dict.fromkeys(OPTIONAL_GROUP_COLUMNS[:-1], np.nan), verdict=""
            ),
        ),
        with_pairs(mock_results(channels=True), size=256),
    ],
    ids=["no optional table", "all NaN", "256 px in colour"],
)
def test_little_and_large_results_have_a_page(results, pristine, tmp_path):
    path = write_results(with_unit_rows(results), source=pristine, out=tmp_path / "r.nwb")
    text = write_report(path).read_text(encoding="utf-8")
    assert "This file establishes nothing" in text or "established" in text
    assert len(text) < 15_000_000
    if not results.synthesized.sizes["edit"]:
        assert "No edits of this group are in the file" in text


def test_many_groups_with_long_names_have_a_page(pristine, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "MOST_LATENT_CHARTS", 1)
    results = mock_results()
    names = [f"group {i} {'long ' * 40}" for i in range(80)]
    groups = results.groups.iloc[np.zeros(80, int)].set_axis(pd.Index(names, name="group"))
    groups = groups.assign(first=np.arange(80), size=1, supervised_by="")
    latents = results.latents.isel(latent=np.zeros(80, int)).assign_coords(group=("latent", names))
    units = results.units.isel(latent=np.zeros(80, int))
    few = replace(mock_results(without=["edits", "labels"]), groups=groups, latents=latents, units=units)
    path = write_results(with_unit_rows(few), source=pristine, out=tmp_path / "many.nwb")
    text = write_report(path).read_text(encoding="utf-8")
    assert text.count('class="group"') == 80 and len(text) < 15_000_000


def test_further_analyses_are_listed(tmp_path):
    rates = xr.Dataset({"rate<b>": ("unit", np.arange(3.0))})
    results = replace(mock_results(without=["edits", "labels"]), analyses={"encoding": rates})
    source = Source(tmp_path / "x.nwb", results, Recording(), None, None)
    text = report_page.page(source)
    assert ">encoding</h3>" in text and "encoding holds rate&lt;b&gt; (unit)" in text


def test_maps_over_images_are_shown_before_numbers_and_no_more_than_what_is_shown_is_drawn(monkeypatch):
    maps = np.random.default_rng(0).uniform(size=(8, 2, 7, 7))
    data = {"map": (("group", "image", "row", "column"), maps)}
    data |= {"picture": (("shown", "y", "x"), np.full((2, 8, 8), 99)), "seen": ("group", maps[:, 0, 0, 0])}
    data["carried"] = (("group", "row", "column"), maps[:, 0])
    places = xr.Dataset(data, {"group": [f"group {i}" for i in range(8)], "image": ["i", "j"]})
    places.attrs["headline"] = ["seen", "carried"]
    drawn = []
    monkeypatch.setattr(
        report_analyses, "chart", lambda draw, caption, **size: drawn.append(caption) or real(draw, caption)
    )
    (section,) = report_analyses.sections(replace(mock_results(), analyses={"places": places}))
    captions = [chart.caption for chart in section.charts]
    assert captions[0].startswith("Held-out images, and each group's map of covered places")
    assert captions[1] == "seen of places." and captions[-1] == "carried of places, group group 3."
    # The one more is the map of features, which these results lack.
    assert len(captions) == 6 and len(drawn) == 7


def test_an_earlier_version_has_a_page(tmp_path):
    out = write_report(FROZEN, "migvis", out=tmp_path / "frozen.html")
    assert "does not say which parts of the claim hold" in out.read_text(encoding="utf-8")


def test_several_files_make_one_page_with_a_row_per_session(both):
    text = both.read_text(encoding="utf-8")
    assert text.count('<th scope="row">') == 2 and "<h1>2 sessions</h1>" in text


def test_two_runs_of_one_session_differ_by_the_names_of_their_files(tmp_path):
    sources = [
        Source(tmp_path / f"a_seed-{seed}.nwb", mock_results(), Recording(identifier="5b1c-uuid"), None, None)
        for seed in (0, 1)
    ]
    text = report_page.sessions_page(sources)
    assert [text.count(f">a_seed-{seed}</") for seed in (0, 1)] == [2, 2]  # a row and a heading of each
    assert text.count("of the session <b>5b1c-uuid</b>") == 2


def test_the_command_and_the_settings_make_the_run_again():
    config = Config.from_dict({"seed": 7, "prior": {"n_steps": 5}})
    provenance = {
        "config": config.to_dict(),
        "inputs": [{"path": "a b.nwb", "sha256": "0"}],
        "reading": {"window_s": [0.05, 0.15], "units": "quality == 'good'", "merge_repeats": False},
    }
    results = replace(mock_results(name="mine"), provenance=provenance)
    assert command(results) == (
        "nwb-migvis run 'a b.nwb' --config migvis.toml --name mine --units 'quality == '\"'\"'good'\"'\"'' "
        "--window 0.05 0.15 --no-merge-repeats"
    )
    import tomllib

    assert Config.from_dict(tomllib.loads(settings(results))) == config
    assert settings(replace(results, provenance={"config": {"seed": "x"}})) == ""


def test_groups_are_exported_as_csv(tmp_path):
    groups = mock_results().groups.rename(index={"pose": "=1+1"})
    out = write_groups([replace(mock_results(), groups=groups), mock_results(name="b")], tmp_path / "g.csv")
    table = pd.read_csv(out)
    assert table["run"].tolist() == ["migvis"] * 3 + ["b"] * 3
    assert table["group"].tolist()[:2] == ["'=1+1", "category"]
    np.testing.assert_allclose(table["mi_p"][:3], groups["mi_p"])


@pytest.mark.parametrize("out", ["x.pdf", "absent/x.html", "folder.html"])
def test_pages_that_cannot_be_written(written, tmp_path, out):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(MigvisError, match="expected the path of an HTML page"):
        write_report(written, out=tmp_path / out)


def test_the_command_line_writes_page_table_and_figure(written, call, tmp_path):
    out, csv = tmp_path / "page.html", tmp_path / "groups.csv"
    code, printed, errors = call("report", written, "-o", out, "--csv", csv)
    assert (code, errors) == (0, "") and out.exists() and csv.exists()
    assert printed.rstrip().endswith(f"wrote {out}") and "Run 'migvis'" in printed
    code, printed, errors = call("report", written, written, "--out", tmp_path / "figure.png")
    assert printed.count(f"{written}\nRun 'migvis'") == 2  # of several files, each table under its own
    assert code == 1 and "found 2 files; expected one for a figure" in errors


def test_a_browser_shows_the_page(page):
    needs_browser()
    with opened(page) as (view, faults):
        shown = ".group:not([hidden]) .step:not([hidden]) img"
        visible = f"[...document.querySelectorAll('{shown}')].map(i => i.src)"
        before = view.evaluate(visible)
        view.focus("input[type=range]")
        view.keyboard.press("ArrowLeft")
        after = view.evaluate(visible)
        assert before and len(before) == len(after) and not set(before) & set(after)
        assert view.inner_text(".slider output") == "0.5 T"
        view.select_option("#group-choice", index=1)
        assert view.evaluate("document.querySelector('.group:not([hidden])').id") == "group-2"
        view.click("#next")
        view.click(".claim a >> nth=0")
        assert view.evaluate("document.querySelector('.group:not([hidden])').id") == "group-1"
        theme = view.evaluate("document.documentElement.dataset.theme")
        view.click("#theme")
        assert view.evaluate("document.documentElement.dataset.theme") != theme
        reached = set()
        view.evaluate("document.activeElement.blur()")
        for _ in range(60):
            view.keyboard.press("Tab")
            reached.add(view.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert {"theme", "group-choice", "previous", "next", "strength-1", "A", "SUMMARY", "PRE"} <= reached
        view.emulate_media(media="print")
        assert view.evaluate("[...document.querySelectorAll('.group')].every(g => g.offsetHeight > 0)")
        assert not view.evaluate("document.querySelector('details').open")
        assert view.pdf().startswith(b"%PDF")
        assert view.evaluate("[...document.querySelectorAll('details')].every(d => d.open)")
        assert faults == []


def test_a_page_fits_small_screens_and_everyone_can_use_it(page, both):
    needs_browser()
    axe = axe_script()
    for one in (page, both):
        with opened(one, width=390, bypass_csp=True) as (view, faults):
            assert view.evaluate("document.documentElement.scrollWidth") <= 390
            view.evaluate(axe)
            for _ in ("light", "dark"):
                violations = view.evaluate("axe.run()")["violations"]
                assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in violations] == []
                view.click("#theme")
            assert faults == []


def test_the_frame_of_the_page_lets_only_its_own_script_act(page):
    text = page.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None and "default-src 'none'" in policy[1] and "unsafe" not in policy[1]
