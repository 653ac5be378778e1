"""What the validators say of a written file, and what our own checks find in a damaged one."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
import xarray as xr
from examples import WEIGHTS, example_results, write_session

from nwb_migvis import MigvisError
from nwb_migvis.store import IMPORTANCES, Finding, validate_file, write_results
from nwb_migvis.store.validate import own_findings

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    return write_session(tmp_path_factory.mktemp("session") / "session.nwb")


@pytest.fixture(scope="module")
def written(session) -> Path:
    groups = ["pose", "category"]
    analysis = xr.Dataset(
        {"spread": ("group", [0.5, 1.5]), "gain": (("group", "label"), np.ones((2, 3)))},
        coords={"group": groups, "label": ["a", "b", "c"]},
    )
    results = replace(example_results(maps=True), analyses={"spread": analysis})
    return write_results(results, source=session, weights=WEIGHTS)


@pytest.fixture
def copy(written, tmp_path) -> Path:
    return Path(shutil.copy(written, tmp_path / "copy.nwb"))


def test_a_written_file_has_no_finding(written, recwarn):
    assert pynwb.validate(path=written) == []
    assert validate_file(written) == []
    assert not recwarn.list


def test_unmeasured_values_add_no_finding_of_weight(session, tmp_path):
    given = example_results(stability=False, labels=False)
    measures = [c for c in given.groups if given.groups[c].dtype == float]
    given.groups[measures] = np.nan
    given.units["reliability"][:] = np.nan
    given.synthesized["gamma"][:] = np.nan
    given.selectivity["si_strict"][:] = np.nan
    out = write_results(given, source=session, out=tmp_path / "out.nwb", weights=WEIGHTS)
    weighty = IMPORTANCES[: IMPORTANCES.index("best_practice_violation") + 1]
    assert [f for f in validate_file(out) if f.importance in weighty] == []


def test_a_real_session_gets_no_new_finding(tmp_path):
    source = SHARED / "nwb_dicarlo_layout" / "session_no_images.nwb"
    if not source.is_file():
        pytest.skip("the shared data are absent")
    session = Path(shutil.copy(source, tmp_path / "session.nwb"))
    out = write_results(example_results(units=np.arange(4)), source=session, weights=WEIGHTS)
    before = [f for f in validate_file(session) if f.location != "/analysis"]
    assert before, "the lab's file has findings of its own"
    assert [f for f in validate_file(out) if f not in before] == []


def put(path, value):
    def change(file):
        file[path][0] = value

    return change


def put_attribute(path, name, value):
    def change(file):
        file[path].attrs[name] = value

    return change


def remove(path):
    def change(file):
        del file[path]

    return change


def as_float(file):
    table = file["analysis/migvis/synthesized_images"]
    attributes = dict(table["image"].attrs)
    values = table["image"][()] / 255
    del table["image"]
    table["image"] = values
    table["image"].attrs.update(attributes)


def json_of(key, **values):
    def change(file):
        attributes = file[f"{RUN}/model"].attrs
        attributes[key] = json.dumps(json.loads(attributes[key]) | values)

    return change


def twice(file):
    for table in ("stimulus_latents", "stimulus_labels"):
        column = file[f"{RUN}/{table}/stimulus"]
        column[1] = column[0]


def none_held_out(file):
    column = file[f"{RUN}/stimulus_latents/split"]
    column[...] = ["train" if name == "test" else name for name in column.asstr()[()]]


def way_out(file):
    for table in ("selectivity", "reader_scores", "selectivity_index"):
        column = file[f"{RUN}/{table}/reader"]
        column[...] = ["../x" if name == "conv" else name for name in column.asstr()[()]]


def other_label(file):
    column = file[f"{RUN}/reader_scores/label"]
    column[...] = ["x" if name == "category" else name for name in column.asstr()[()]]


FIRST = "000000_pose_image_00.png_to_image_11.png_0.90"
"""Name of the first image of the gallery."""


def without_first(file):
    del file[f"{RUN}/gallery/{FIRST}"]


def another_order(file):
    order = file[f"{RUN}/gallery/order_of_images"]
    order[...] = order[()][::-1]


def unknown_image(file):
    file.move(f"{RUN}/gallery/{FIRST}", f"{RUN}/gallery/best")


def blank(file):
    file[f"{RUN}/synthesized_images/image"][2] = 0


def other_table(file):
    file[f"{RUN}/unit_loadings/unit_row"].attrs["table"] = file["intervals/trials"].ref


def float_gallery(file):
    del file[f"{RUN}/gallery/{FIRST}"]
    file[f"{RUN}/gallery/{FIRST}"] = np.zeros((8, 10))


def short_analysis(file):
    table = file[f"{RUN}/analyses/spread"]
    structure = json.loads(table.attrs["structure"])
    table.attrs["structure"] = json.dumps(structure | {"shape": [5]})


def shuffled_analysis(file):
    column = file[f"{RUN}/analyses/spread_by_group_label/group"]
    column[0] = column[()][-1]


def crowded_gallery(file):
    for i in range(40):
        file[f"{RUN}/gallery/{i}"] = np.zeros((8, 10), np.uint8)


RUN = "/analysis/migvis"
DAMAGES = {
    "source": (put(f"{RUN}/synthesized_images/source", "nothing"), "synthesized_images/source", "'nothing'"),
    "target": (put(f"{RUN}/synthesized_images/target", "nothing"), "synthesized_images/target", "'nothing'"),
    "group": (put(f"{RUN}/synthesized_images/group", "nothing"), "synthesized_images/group", "'nothing'"),
    "role": (put(f"{RUN}/synthesized_images/role", "extra"), "synthesized_images/role", "'extra'"),
    "split": (put(f"{RUN}/stimulus_latents/split", "all"), "stimulus_latents/split", "'all'"),
    "strength": (put(f"{RUN}/synthesized_images/strength", 1.5), "synthesized_images/strength", "(0, 1]"),
    "mean": (put(f"{RUN}/stimulus_latents/mean", np.inf), "stimulus_latents/mean", "not finite"),
    "unit": (put(f"{RUN}/unit_loadings/unit", 77), "unit_loadings/unit_row", "rows of other units"),
    "unit row": (put(f"{RUN}/unit_loadings/unit_row", 77), "unit_loadings/unit_row", "does not have"),
    "latents": (put(f"{RUN}/latent_groups/first", 1), "", "not that of results.groups"),
    "weights": (put(f"{RUN}/model/vae", 99), "model/vae", "the sha256 is"),
    "digest": (put_attribute(f"{RUN}/model/vae", "sha256", "0"), "model/vae", "recorded is 0"),
    "pixels": (as_float, "", "found float64; expected uint8"),
    "provenance": (put_attribute(f"{RUN}/model", "provenance", "{"), "", "not as ndx-migvis describes it"),
    "p": (put(f"{RUN}/latent_groups/mi_p", 1.5), "latent_groups/mi_p", "outside [0, 1]"),
    "r2": (put(f"{RUN}/unit_loadings/r2", 255.0), "unit_loadings/r2", "values above 1"),
    "infinite r2": (put(f"{RUN}/unit_loadings/r2", -np.inf), "unit_loadings/r2", "not finite"),
    "seed": (put(f"{RUN}/synthesized_images/seed", -1), "synthesized_images/seed", "values below 0"),
    "score": (
        put(f"{RUN}/synthesized_images/score_after", np.nan),
        "synthesized_images/score_after",
        "not finite",
    ),
    "interval": (
        put(f"{RUN}/selectivity/transfer_low", 9.0),
        "selectivity/transfer_low",
        "above transfer_high",
    ),
    "bound": (
        put(f"{RUN}/latent_groups/mi_bound_nats", 50.0),
        "latent_groups/mi_bound_nats",
        "above mi_cap_nats",
    ),
    "one map": (
        remove(f"{RUN}/synthesized_images/map"),
        "synthesized_images",
        "only one of map and critic_map",
    ),
    "a stimulus twice": (twice, "stimulus_latents/stimulus", "a stimulus twice"),
    "no test stimuli": (none_held_out, "stimulus_latents/split", "no stimulus was held out"),
    "a way out": (way_out, "selectivity/reader", "the name '../x'"),
    "an absolute path": (
        put(f"{RUN}/latent_groups/supervised_by", "/etc/x"),
        "latent_groups/supervised_by",
        "'/etc/x'",
    ),
    "a label of another table": (other_label, "", "/reader_scores/label names others"),
    "versions": (json_of("versions", numpy=3), "model@provenance", "versions is "),
    "seeds": (json_of("provenance", seeds={"run": -1}), "model@provenance", "seeds is "),
    "a text in the provenance": (
        json_of("provenance", appearance={"a": ["\x1b[2J"]}),
        "model@provenance",
        "appearance.a[0] is '\\x1b[2J'",
    ),
    "a digest of inputs": (json_of("digests", inputs={"a": "x"}), "model@digests", "inputs holds 'x'"),
    "no digest of weights": (json_of("digests", weights={}), "model/vae", "recorded is no digest"),
    "settings": (json_of("config", prior={"n_steps": "many"}), "model@config", "n_steps"),
    "table": (remove(f"{RUN}/unit_loadings"), "", "not as ndx-migvis describes it"),
    "an image of the gallery": (without_first, "gallery", f"the edit {FIRST} is absent"),
    "the gallery's order": (another_order, "gallery/order_of_images", "another order"),
    "the gallery's pixels": (put(f"{RUN}/gallery/{FIRST}", 7), f"gallery/{FIRST}", "other pixels"),
    "a chosen image": (unknown_image, "gallery/best", "not an edit that the run's seed draws"),
    "too many images": (crowded_gallery, "", "images; expected at most 40"),
    "a gallery of floats": (float_gallery, "", "found float64 (8, 10); expected an image"),
    "a blank image": (blank, "synthesized_images/image", "1 blank images, the first in row 2"),
    "a region of another table": (other_table, "unit_loadings/unit_row", "does not lead to /units"),
    "a column without a description": (
        put_attribute(f"{RUN}/unit_loadings/r2", "description", " "),
        "unit_loadings/r2",
        "a column without a description",
    ),
    "rows of an analysis": (short_analysis, "", "spread/group is not a column of 5 rows"),
    "order of an analysis": (shuffled_analysis, "", "all combinations of the axes, in order"),
    "structure of an analysis": (
        put_attribute(f"{RUN}/analyses/spread", "structure", '{"names": {}}'),
        "",
        "does not describe columns and axes",
    ),
    "a plausible share": (put(f"{RUN}/latent_groups/variance_explained", 0.25), "", "groups: not what"),
    "a plausible latent": (put(f"{RUN}/stimulus_latents/mean", 0.25), "", "latents: not what"),
    "a plausible transfer": (put(f"{RUN}/selectivity/transfer", 0.25), "", "selectivity: not what"),
    "another label": (put(f"{RUN}/stimulus_labels/category", "x"), "", "labels: not what"),
    "a pixel": (put(f"{RUN}/synthesized_images/image", 7), "", "synthesized: not what"),
    "another seed": (json_of("provenance", note="x"), "", "provenance: not what"),
    "digests of no tables": (json_of("digests", tables=3), "", "digests: not what"),
    "no digests of tables": (json_of("digests", tables=None), "", "digests: not what"),
}


@pytest.mark.parametrize(("damage", "place", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_where_it_is(copy, damage, place, message):
    with h5py.File(copy, "r+") as file:
        damage(file)
    with h5py.File(copy) as file:
        findings = list(own_findings(file))
    assert {f.importance for f in findings} == {"error"}
    here = [f.message for f in findings if f.location == f"{RUN}/{place}".rstrip("/")]
    assert any(message in m for m in here), findings


def test_a_file_without_the_cached_specification_is_found(copy):
    with h5py.File(copy, "r+") as file:
        del file["specifications/ndx-migvis"]
    missing = Finding("error", "the specification of ndx-migvis is not in the file", "/specifications")
    assert missing in validate_file(copy)


def test_results_that_were_lost_before_they_were_written_are_found(copy):
    with h5py.File(copy, "r+") as file:
        lost = file["analysis"].create_group("lost")
        lost.attrs.update({"namespace": "core", "neurodata_type": "NWBDataInterface"})
    with h5py.File(copy) as file:
        (finding,) = own_findings(file)
    assert (finding.importance, finding.location) == ("error", "/analysis/lost")
    assert "before ndx-migvis was imported is lost" in finding.message


def test_specifications_in_several_versions_are_found(copy):
    with h5py.File(copy, "r+") as file:
        cached = file["specifications/core"]
        file.copy(cached[next(iter(cached))], cached, "2.0.0")
    with h5py.File(copy) as file:
        (finding,) = own_findings(file)
    assert (finding.importance, finding.location) == ("best_practice_violation", "/specifications/core")
    assert "2.0.0" in finding.message


def test_the_schema_is_checked_too(copy):
    with h5py.File(copy, "r+") as file:
        del file["session_description"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        findings = validate_file(copy)
    found = [f for f in findings if f.importance == "error" and "session_description" in f.message]
    assert found
    assert not set(found) & set(validate_file(copy, schema=False))


def test_a_file_without_results_can_be_valid_and_what_is_no_file_is_refused(session, tmp_path):
    assert validate_file(session) == []
    with pytest.raises(MigvisError, match="expected an NWB file"):
        validate_file(tmp_path / "absent.nwb")
