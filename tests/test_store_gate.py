"""What a result file says passes one gate: one line that names the place, and no memory asked for."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from examples import WEIGHTS, example_results, write_session

from nwb_migvis import MigvisError, inspect_session, read_results
from nwb_migvis.errors import printable
from nwb_migvis.files import check_plain_name
from nwb_migvis.report import group_table
from nwb_migvis.store import building, check_models, list_runs, read_weights, write_results
from nwb_migvis.store.validate import own_findings
from nwb_migvis.tensors import parse_json, read_header, read_tensors, write_tensors

RUN = "/analysis/migvis"
MODEL = f"{RUN}/model"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    session = write_session(tmp_path_factory.mktemp("gate") / "session.nwb")
    return write_results(example_results(maps=True), source=session, weights=WEIGHTS)


@pytest.fixture
def copy(written, tmp_path) -> Path:
    return Path(shutil.copy(written, tmp_path / "copy.nwb"))


def replace_column(file, place, data, **options):
    attributes = dict(file[f"{RUN}/{place}"].attrs)
    del file[f"{RUN}/{place}"]
    file.create_dataset(f"{RUN}/{place}", data=data, **options).attrs.update(attributes)


def change_json(key, change):
    def alter(file):
        value = json.loads(file[MODEL].attrs[key])
        file[MODEL].attrs[key] = json.dumps(change(value) or value)

    return alter


def long_axes(file):
    for name, item in list(file[f"{RUN}/selectivity"].items()):
        is_axis = name in ("group", "label", "method", "reader")
        data = [f"{name}{i}" for i in range(120)] if is_axis else np.zeros(120, item.dtype)
        replace_column(
            file, f"selectivity/{name}", data, **({"dtype": h5py.string_dtype()} if is_axis else {})
        )


def repeated_row(file):
    for name in ("group", "label"):
        axis = file[f"{RUN}/decoding/{name}"]
        axis[1] = axis[0]


def huge_group(file):
    file[f"{RUN}/latent_groups/size"][0] = 300_000_000


def negative_group(file):
    file[f"{RUN}/latent_groups/size"][:] = [-1, 6, 1]


def no_bytes(file):
    place = f"{RUN}/synthesized_images/image"
    attributes = dict(file[place].attrs)
    del file[place]
    file.create_dataset(place, (7, 30_000, 30_000), np.uint8, chunks=(1, 3000, 3000), compression="gzip")
    file[place].attrs.update(attributes)


def soft_link(file):
    place = f"{RUN}/unit_loadings/loading"
    file.move(place, "/scratch_loading")
    file[place] = h5py.SoftLink("/scratch_loading")


def link_cycle(file):
    del file[f"{RUN}/stimulus_latents"]
    file[f"{RUN}/stimulus_latents"] = file[RUN]


def external_link(file):
    del file[f"{RUN}/stimulus_latents/mean"]
    file[f"{RUN}/stimulus_latents/mean"] = h5py.ExternalLink("other.h5", "/x")


def external_storage(file):
    place = f"{RUN}/unit_loadings/r2"
    del file[place]
    file.create_dataset(place, (4,), np.float64, external=[("/etc/hostname", 0, 32)])


def group_for_dataset(file):
    del file[f"{RUN}/stimulus_latents/split"]
    file.create_group(f"{RUN}/stimulus_latents/split")


def dataset_for_group(file):
    del file[f"{RUN}/unit_loadings"]
    file[f"{RUN}/unit_loadings"] = np.zeros(3)


def other_rows(file):
    replace_column(file, "unit_loadings/r2", np.zeros(9))


def long_text(file):
    replace_column(file, "synthesized_images/source", ["x" * 100_000] * 7, dtype=h5py.string_dtype())


def deep_json(file):
    file[MODEL].attrs["provenance"] = '{"a": ' + "[" * 20_000 + "]" * 20_000 + "}"


def number_for_json(file):
    del file[MODEL].attrs["provenance"]
    file[MODEL].attrs["provenance"] = 3.0


def label_without_a_name(file):
    del file[f"{RUN}/stimulus_labels/category"].attrs["label"]


def labels_of_one_name(file):
    file[f"{RUN}/stimulus_labels/category"].attrs["label"] = "rotation_y"


def label_that_wraps_nowhere(file):
    file[f"{RUN}/stimulus_labels/rotation_x"].attrs["period"] = np.nan


def label_of_other_rows(file):
    replace_column(file, "stimulus_labels/rotation_x", np.zeros(3))


def label_of_integers(file):
    replace_column(file, "stimulus_labels/rotation_x", np.zeros(12, np.int16))


HOSTILE = {
    "a label without a name": (label_without_a_name, "/stimulus_labels/category@label is None"),
    "labels of one name": (labels_of_one_name, "@label is 'rotation_y'; expected a name of its own"),
    "a period of NaN": (label_that_wraps_nowhere, "/stimulus_labels/rotation_x@period is"),
    "a label of other rows": (label_of_other_rows, "/stimulus_labels/rotation_x has 3 rows; expected 12"),
    "a label of integers": (label_of_integers, "/stimulus_labels/rotation_x: found int16; expected floats"),
    "axes of 120 names": (long_axes, "/selectivity has 120 rows; expected 207360000"),
    "a row twice": (repeated_row, "/decoding has"),
    "a group of 3e8 latents": (huge_group, "/stimulus_latents/mean has 6 latents"),
    "a group of -1 latents": (negative_group, "/stimulus_latents/mean has 6 latents"),
    "an image of no bytes": (no_bytes, "/synthesized_images/image is said to hold 6300000000 bytes"),
    "a soft link": (soft_link, "/unit_loadings/loading is a link to another place"),
    "a link cycle": (link_cycle, f"{RUN}/stimulus_latents/"),
    "an external link": (external_link, "/stimulus_latents/mean is a link to another place"),
    "data in another file": (external_storage, "/unit_loadings/r2 has its data in another file"),
    "a group for a dataset": (group_for_dataset, "/stimulus_latents/split is a group"),
    "a dataset for a group": (dataset_for_group, "/unit_loadings is a dataset"),
    "other rows": (other_rows, "/unit_loadings/r2 has 9 rows; expected 4"),
    "a text of 100,000 characters": (long_text, "/synthesized_images/source has a text of 100000"),
    "deep JSON": (deep_json, "@provenance: JSON that is nested too deeply"),
    "a number for JSON": (number_for_json, "@provenance is not text"),
    "notes = 5": (change_json("provenance", lambda v: v.update(notes=5)), "notes is a int; expected a list"),
    "reading = 5": (change_json("provenance", lambda v: v.update(reading=5)), "reading is a int"),
    "further edits": (
        change_json("provenance", lambda v: v.update(further_edits=[1])),
        "further_edits hold 1",
    ),
    "weights = null": (change_json("digests", lambda v: v.update(weights=None)), "weights is a NoneType"),
    "an integer of 400 digits": (change_json("config", lambda v: v.update(seed=10**399)), "one of 64 bits"),
}


@pytest.mark.parametrize(("spoil", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_run_is_refused_by_name_and_found_by_validation(copy, spoil, message):
    with h5py.File(copy, "r+") as file:
        spoil(file)
    with pytest.raises(MigvisError) as caught:
        read_results(copy)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    with h5py.File(copy) as file:
        assert any(message in finding.message for finding in own_findings(file))


@pytest.mark.parametrize("spoil", [external_link, external_storage])
def test_data_of_results_in_other_files_are_not_opened_by_an_inspection(copy, spoil):
    with h5py.File(copy, "r+") as file:
        spoil(file)
    message = "has its data in another file; expected results to hold theirs"
    with pytest.raises(MigvisError, match=message) as caught:
        inspect_session(copy)
    assert "\n" not in str(caught.value)


def test_a_run_that_is_linked_from_elsewhere_is_not_a_run_of_the_file(copy, tmp_path):
    with h5py.File(copy, "r+") as file:
        file["analysis/second"] = h5py.SoftLink(RUN)
        file["analysis/third"] = h5py.ExternalLink("copy.nwb", RUN)
    assert list_runs(copy) == ["migvis"]


# Weights -------------------------------------------------------------------------------------------------


def spoiled(network, *, settings=None, tensors=None) -> dict[str, bytes]:
    """Return weights of which one network has other settings or tensors."""
    arrays, metadata = read_tensors(WEIGHTS[network])
    head = json.loads(metadata["nwb-migvis"])
    head = settings(head) or head if settings else head
    arrays = tensors(dict(arrays)) if tensors else arrays
    return WEIGHTS | {network: write_tensors(arrays, {"nwb-migvis": json.dumps(head)})}


def put(*path_value):
    *path, last, value = path_value

    def change(head):
        part = head
        for key in path:
            part = part[key]
        part[last] = value

    return change


BAD_WEIGHTS = {
    "65536 channels": spoiled("prior", settings=put("unet", "block_out_channels", [65536])),
    "an unknown setting": spoiled("prior", settings=put("unet", "evil", 1)),
    "an unknown block": spoiled("prior", settings=put("unet", "up_block_types", ["os.system"])),
    "many layers": spoiled("prior", settings=put("unet", "layers_per_block", 10**5)),
    "patch of 0": spoiled("prior", settings=put("patch_px", 0)),
    "images of 100000 px": spoiled("prior", settings=put("shape", [100_000, 100_000])),
    "images of other sizes": spoiled("prior", settings=put("shape", [8, 9])),
    "scale of text": spoiled("prior", settings=put("scale", {"mean": "x", "std": 1})),
    "no schedule": spoiled("prior", tensors=lambda t: {k: v for k, v in t.items() if k != "alpha_bar"}),
    "a list": spoiled("prior", settings=lambda _: [1]),
    "40000 channels": spoiled("critic", settings=put("channels", [40_000])),
    "groups of others": spoiled("critic", settings=put("sizes", [1, 2])),
    "no bank": spoiled("critic", tensors=lambda t: {**t, "bank": t["bank"][:0]}),
    "double precision": spoiled("critic", tensors=lambda t: {k: v.astype(float) for k, v in t.items()}),
    "a model on a hub": spoiled(
        "critic",
        settings=lambda _: {
            "kind": "critic",
            "sizes": [3, 2, 1],
            "features": "timm",
            "model": "hf_hub:evil/model",
            "path": "x",
        },
    ),
    "another kind": spoiled("prior", settings=put("kind", "critic")),
    "other units": spoiled("vae", settings=put("n_units", 10**9)),
    "not safetensors": WEIGHTS | {"vae": b"\xff" * 100},
    "a long header": WEIGHTS | {"vae": (2**40).to_bytes(8, "little") + b"{}"},
}


@pytest.mark.parametrize("weights", BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_weights_with_a_right_digest_and_a_wrong_content_are_refused(weights):
    (network,) = (name for name in weights if weights[name] != WEIGHTS[name])
    with pytest.raises(MigvisError, match=f"a.nwb: /analysis/migvis/model/{network}: ") as caught:
        check_models(weights, example_results(), path=Path("a.nwb"))
    assert "\n" not in str(caught.value)


def test_right_weights_pass_and_validation_names_wrong_ones(copy):
    check_models(WEIGHTS, example_results(), path=copy)
    wrong = BAD_WEIGHTS["65536 channels"]["prior"]
    digest = hashlib.sha256(wrong).hexdigest()
    with h5py.File(copy, "r+") as file:
        replace_column(file, "model/prior", np.frombuffer(wrong, np.uint8))
        file[f"{MODEL}/prior"].attrs["sha256"] = digest
        change_json("digests", lambda v: v["weights"].update(prior=digest))(file)
    assert read_weights(copy)["prior"] == wrong
    with h5py.File(copy) as file:
        findings = [f for f in own_findings(file) if f.location == f"{MODEL}/prior"]
    assert "the settings say 65536 x 65536" in findings[0].message or "conv_in" in findings[0].message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("n_threads", 10**6, "n_threads is 1000000"),
        ("n_threads", "many", "n_threads is 'many'"),
        ("synthesis", {"batch_size": 10**8}, "synthesis.batch_size is 100000000"),
        ("synthesis", 5, "synthesis is 5"),
        ("latents", {"groups": []}, "latents.groups are "),
        ("latents", {"groups": [{"name": "other", "size": 6}]}, "latents.groups are "),
    ],
)
def test_recorded_settings_are_bounded_and_of_the_run(key, value, message):
    results = example_results()
    results.provenance["config"][key] = value
    with pytest.raises(MigvisError, match=message):
        check_models({}, results, path=Path("a.nwb"))


def test_what_cannot_be_built_is_one_line():
    with pytest.raises(MigvisError, match=r"x: no network can be built .* shape"), building("x"):
        raise RuntimeError("size mismatch\n\tshape")


def test_json_and_safetensors_are_bounded():
    for text in ("[1]", '{"a": NaN}', '{"a": 1e999}', '{"a": ' + "9" * 5000 + "}", "{"):
        with pytest.raises(ValueError):
            parse_json(text)
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(0, np.uint8), "c": np.arange(3)}
    found, metadata = read_tensors(write_tensors(arrays, {"k": "v"}))
    assert metadata == {"k": "v"}
    assert all(np.array_equal(found[k], v) and found[k].dtype == v.dtype for k, v in arrays.items())
    for shape, offsets in (
        ([2**40], [0, 8]),
        ([-1], [0, 8]),
        ([1], [8, 16]),
        ([1.0], [0, 8]),
        (None, [0, 8]),
    ):
        header = json.dumps({"a": {"dtype": "F64", "shape": shape, "data_offsets": offsets}}).encode()
        with pytest.raises(ValueError, match="tensor"):
            read_header(len(header).to_bytes(8, "little") + header + bytes(8))


# Names and paths ------------------------------------------------------------------------------------------


def test_names_cannot_command_a_terminal():
    evil = "\x1b]52;c;ZXZpbA==\x07\nwrote /etc/passwd\x9b2J"
    assert printable(evil) == "\\x1b]52;c;ZXZpbA==\\x07 wrote /etc/passwd\\x9b2J"
    assert str(MigvisError(f"found {evil}")).isprintable()
    results = example_results(edits=False)
    results.provenance["notes"] = [evil]
    results.groups.index = [evil, *results.groups.index[1:]]
    table = group_table(results)
    assert not {"\x1b", "\x07", "\x9b"} & set(table)
    assert not [line for line in table.splitlines() if line.startswith("wrote")]


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes and devices")
def test_pipes_and_devices_are_refused_at_once(tmp_path):
    pipe = tmp_path / "pipe.nwb"
    os.mkfifo(pipe)
    for path, kind in ((pipe, "a pipe"), (Path("/dev/zero"), "a device")):
        for read in (read_results, read_weights, list_runs):
            with pytest.raises(MigvisError, match=f"is {kind}; expected a regular file"):
                read(path)


@pytest.mark.parametrize("name", ["hf_hub:evil/model", "local-dir:/srv/x", "", "../x", "a b"])
def test_a_model_name_is_plain(name):
    with pytest.raises(MigvisError, match="expected the plain name of an architecture"):
        check_plain_name(name, what="model")
    check_plain_name("vit_small_patch16_224.dino", what="model")
