from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pynwb
import pytest
from hdmf.backends.hdf5.h5_utils import H5DataIO
from hdmf.common import VectorData
from pynwb.testing.mock.file import mock_NWBFile
from ruamel.yaml import YAML

import ndx_migvis
from ndx_migvis import (
    NAMESPACE,
    SPEC_FILE,
    LatentGroupsTable,
    MigvisModel,
    MigvisRun,
    NetworkWeights,
    ReaderScoresTable,
    StimulusLatentsTable,
    SynthesizedImagesTable,
    UnitLoadingsTable,
    testing,
)
from ndx_migvis.namespace import SpecReader
from nwb_migvis import MigvisError

ROOT = Path(__file__).parents[1]


def in_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_registers_the_namespace_and_loads_nothing_heavy():
    heavy = ("torch", "diffusers", "spikeinterface", "matplotlib", "sklearn", "nwbinspector", "xarray")
    code = (
        "import sys, nwb_migvis, pynwb; "
        f"print({NAMESPACE!r} in pynwb.available_namespaces(), [m for m in {heavy!r} if m in sys.modules])"
    )
    assert in_fresh_process(code) == "True []"


def test_the_committed_specification_is_what_the_script_writes(tmp_path):
    script = ROOT / "src" / "spec" / "create_extension_spec.py"
    if not script.is_file():
        pytest.skip("the script is in the source tree only")
    spec = importlib.util.spec_from_file_location("create_extension_spec", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(tmp_path)
    for file in tmp_path.iterdir():
        assert file.read_text() == (SPEC_FILE.parent / file.name).read_text()
    assert len(list(tmp_path.iterdir())) == 3


SPECIFICATIONS = """
import json, pynwb
def told(namespace):
    known = pynwb.get_type_map(copy=False).namespace_catalog.get_namespace(namespace)
    return json.dumps([known.get_spec(name) for name in sorted(known.get_registered_types())], sort_keys=True)
core = told("core")
"""


def test_a_fast_import_registers_what_the_yaml_files_say_and_leaves_core_alone():
    end = "print(core == told('core'), told('ndx-migvis'))"
    fast = in_fresh_process(f"{SPECIFICATIONS}import ndx_migvis; {end}")
    slow = in_fresh_process(f"{SPECIFICATIONS}pynwb.load_namespaces({str(SPEC_FILE)!r}); {end}")
    assert fast.startswith("True [") and "MigvisRun" in fast
    assert fast == slow


def test_a_changed_yaml_file_counts_more_than_what_was_parsed_before(tmp_path):
    for file in SPEC_FILE.parent.iterdir():
        shutil.copy(file, tmp_path)
    namespace, types = SPEC_FILE.name, SPEC_FILE.name.replace("namespace", "extensions")
    as_written = SpecReader(tmp_path).read_spec(types)
    assert as_written == SpecReader(SPEC_FILE.parent).read_spec(types)
    (tmp_path / types).write_text((tmp_path / types).read_text().replace("NetworkWeights", "Weights"))
    (changed, *_) = SpecReader(tmp_path).read_spec(types)["datasets"]
    assert changed["neurodata_type_def"] == "Weights"
    (tmp_path / "parsed.json").unlink()
    assert SpecReader(tmp_path).read_namespace(str(tmp_path / namespace))[0]["name"] == NAMESPACE


def test_the_specification_obeys_the_schema_language():
    from hdmf.testing.validate_spec import validate_spec

    language = Path(pynwb.__file__).parent / "nwb-schema" / "nwb.schema.json"
    for file in SPEC_FILE.parent.glob("*.yaml"):
        validate_spec(str(file), str(language))


def test_the_wheel_carries_the_specification(tmp_path):
    builders = pytest.importorskip("hatchling.builders.wheel", reason="hatchling builds the wheel")
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("wheels are built from the source tree")
    [wheel] = builders.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        for file in SPEC_FILE.parent.glob("*.yaml"):
            assert archive.read(f"ndx_migvis/spec/{file.name}") == file.read_bytes()


def test_every_type_of_the_specification_has_a_class_with_the_generated_attributes():
    catalog = pynwb.get_manager().type_map.namespace_catalog
    types = [
        t
        for t in catalog.get_namespace(NAMESPACE).get_registered_types()
        if catalog.get_namespace(NAMESPACE).catalog.get_spec_source_file(t).startswith(NAMESPACE)
    ]
    assert set(types) == {n for n in ndx_migvis.__all__ if n not in ("NAMESPACE", "SPEC_FILE", "MigvisError")}
    for name in types:
        assert pynwb.get_class(name, NAMESPACE) is getattr(ndx_migvis, name)


EDIT = {
    "group": ["pose", "pose"],
    "source": ["a", "b"],
    "target": ["b", ""],
    "method": ["pmi", "pmi"],
    "role": ["main", "traversal"],
    "strength": np.array([0.9, 0.9]),
    "guidance": np.array([0.3, 0.3]),
    "gamma": np.array([np.nan, 1.0]),
    "direction": ["", "ones"],
    "seed": np.array([1, 2]),
    "score_before": np.array([0.0, 0.0]),
    "score_after": np.array([1.0, 1.0]),
    "image": np.zeros((2, 4, 5), np.uint8),
}


def edits(**changes):
    data = {k: v for k, v in {**EDIT, **changes}.items() if v is not None}
    return SynthesizedImagesTable.from_columns(name="synthesized_images", description="Edits.", data=data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.zeros((2, 4, 5))}, "'image': found float64 values; expected uint8"),
        ({"image": np.zeros((2, 4, 5), np.int64)}, "'image': found int64 values; expected uint8"),
        ({"image": H5DataIO(np.zeros((2, 4, 5)), compression="gzip")}, "'image': found float64"),
        (
            {"image": np.zeros((2, 4), np.uint8)},
            r"'image': found the shape \(2, 4\); expected \(any, any, any\)",
        ),
        ({"image": np.zeros((2, 4, 5, 4), np.uint8)}, r"found the shape \(2, 4, 5, 4\)"),
        ({"image": None}, "found no column 'image'"),
        ({"strength": ["0.9", "nan"]}, "'strength': found <U3 values; expected floats"),
        ({"seed": np.array([1.0, 2.0])}, "'seed': found float64 values; expected integers"),
        ({"target": [1, 2]}, "'target': found int64 values; expected text"),
        ({"map": np.zeros((2, 4, 5), np.uint8)}, "'map': found uint8 values; expected floats"),
        ({"pixels": np.zeros(2)}, "found a column 'pixels'; expected group, source"),
    ],
)
def test_a_table_refuses_columns_of_wrong_dtype_or_shape(changes, message):
    with pytest.raises(MigvisError, match=message) as caught:
        edits(**changes)
    assert "\n" not in str(caught.value)


def test_a_table_takes_grayscale_and_colour_and_describes_every_column():
    for shape in ((2, 4, 5), (2, 4, 5, 3)):
        table = edits(image=np.zeros(shape, np.uint8), map=np.zeros((2, 4, 5), np.float32))
        assert table["image"].data.shape == shape
        assert all(len(column.description) > 20 for column in table.columns)


def test_rows_are_checked_as_they_are_added():
    table = ReaderScoresTable(name="reader_scores", description="Scores.")
    table.add_row(label="category", reader="conv", reader_score=0.5)
    with pytest.raises(MigvisError, match="'reader_score': found <U3 values"):
        table.add_row(label="category", reader="conv", reader_score="0.5")
    with pytest.raises(MigvisError, match="'label': found int64 values"):
        table.add_row(label=3, reader="conv", reader_score=0.5)
    assert len(table) == 1


def test_weights_refuse_another_dtype_and_another_digest():
    data = np.arange(10, dtype=np.uint8)
    digest = hashlib.sha256(data.tobytes()).hexdigest()
    assert NetworkWeights(name="vae", data=data, description="VAE.", sha256=digest).format == "safetensors"
    with pytest.raises(MigvisError, match="'vae': found float32 values; expected uint8"):
        NetworkWeights(name="vae", data=data.astype(np.float32), description="VAE.", sha256=digest)
    with pytest.raises(MigvisError, match="'vae': found the sha256 'abc'"):
        NetworkWeights(name="vae", data=data, description="VAE.", sha256="abc")


@pytest.mark.parametrize("text", ["{", "[1]", "nothing"])
def test_a_model_record_refuses_what_is_no_json_object(text):
    with pytest.raises(MigvisError, match="expected a JSON object"):
        MigvisModel(name="model", provenance=text)


def test_a_run_refuses_latents_that_its_groups_do_not_have():
    number = np.ones(1)
    measures = [c["name"] for c in LatentGroupsTable.__columns__[4:11]]
    groups = LatentGroupsTable.from_columns(
        name="latent_groups",
        description="Groups.",
        data={"group": ["free_1"], "first": np.array([0]), "size": np.array([3]), "supervised_by": [""]}
        | dict.fromkeys(measures, number),
    )
    stimuli = StimulusLatentsTable.from_columns(
        name="stimulus_latents",
        description="Latents.",
        data={
            "stimulus": ["a"],
            "mean": np.zeros((1, 3), np.float32),
            "log_var": np.zeros((1, 3), np.float32),
            "split": ["test"],
            "n_presentations": np.array([2]),
        },
    )
    units = UnitLoadingsTable.from_columns(
        name="unit_loadings",
        description="Units.",
        data={"unit": np.array([0]), "loading": np.zeros((1, 2))}
        | dict.fromkeys(("r2", "noise_ceiling", "reliability"), number),
    )
    with pytest.raises(
        MigvisError, match=r"found unit_loadings.loading of shape \(2,\) per row; expected the 3"
    ):
        MigvisRun(
            name="migvis",
            description="A run.",
            model=MigvisModel(name="model", provenance="{}"),
            latent_groups=groups,
            stimulus_latents=stimuli,
            unit_loadings=units,
        )


# The extension by itself ---------------------------------------------------------------------------------


def test_it_is_imported_alone_and_loads_nothing_of_the_package():
    code = (
        "import sys; from ndx_migvis import MigvisRun; print([m for m in sys.modules if m == 'nwb_migvis'])"
    )
    assert in_fresh_process(code) == "[]"


def test_mocks_of_every_type_are_written_and_validate(tmp_path):
    run = testing.mock_MigvisRun()
    made = {type(o).__name__ for o in run.all_children()} | {type(run).__name__}
    assert made >= set(ndx_migvis.__all__) - {"NAMESPACE", "SPEC_FILE", "MigvisError"}
    nwbfile = mock_NWBFile()
    nwbfile.add_analysis(run)
    with pynwb.NWBHDF5IO(tmp_path / "mock.nwb", "w") as io:
        io.write(nwbfile)
    assert pynwb.validate(path=tmp_path / "mock.nwb") == []
    with pynwb.NWBHDF5IO(tmp_path / "mock.nwb", "r") as io:
        back = io.read().analysis["migvis"]
        assert list(back.gallery.order_of_images.data[:]) == [
            back.gallery.images[f"{i:06d}"] for i in range(3)
        ]
        assert back.analyses["spread"].to_dataframe()["spread"].between(0, 1).all()


def test_a_mock_takes_other_columns_and_leaves_parts_out():
    table = testing.mock_table("ReaderScoresTable", reader_score=np.zeros(4))
    assert table["reader_score"].data.tolist() == [0, 0, 0, 0]
    assert testing.mock_MigvisRun(gallery=None).gallery is None


def test_a_table_of_an_analysis_says_what_it_holds():
    with pytest.raises(MigvisError, match="expected a JSON object"):
        ndx_migvis.AnalysisTable(name="a", description="A.", analysis="a", structure="{")
    with pytest.raises(MigvisError, match="no column of the axis 'group'"):
        ndx_migvis.AnalysisTable(
            name="a",
            description="A.",
            columns=[VectorData(name="b", description="B.", data=[1])],
            colnames=["b"],
            analysis="a",
            structure='{"dims": ["group"]}',
        )


def test_the_catalog_is_told_what_it_asks_for():
    file = ROOT / "ndx-meta.yaml"
    if not file.is_file():
        pytest.skip("the record for the catalog is in the source tree only")
    yaml = YAML(typ="safe", pure=True)
    record = yaml.load(file.read_text())
    assert set(record) == {"name", "version", "src", "pip", "license", "maintainers"}
    (namespace,) = yaml.load(SPEC_FILE.read_text())["namespaces"]
    assert (record["name"], record["version"]) == (NAMESPACE, namespace["version"])
    assert record["license"] == importlib.metadata.metadata("nwb-migvis")["License-Expression"]
    assert all(record[key].startswith("https://") for key in ("src", "pip"))
    assert record["maintainers"]


def test_the_reference_is_what_its_script_writes(tmp_path):
    script = ROOT / "src" / "spec" / "write_schema_reference.py"
    if not script.is_file():
        pytest.skip("the script is in the source tree only")
    namespace = runpy.run_path(str(script))
    namespace["main"](SPEC_FILE.parent, tmp_path / "reference.md")
    written = (tmp_path / "reference.md").read_text()
    assert written == (ROOT / "docs" / "schema-reference.md").read_text()
    assert all(f"## `{name}`" in written for name in ndx_migvis.__all__ if name in written)
    assert 'MigvisRun *-- "0 or 1" Images : gallery' in written
