"""A third party's package: one addition of each kind, through settings and the command line."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from documents import blocks
from pynwb import NWBHDF5IO

from nwb_migvis import MigvisError, read_results, read_session
from nwb_migvis.config import CriticConfig, EvidenceConfig, LatentsConfig, SynthesisConfig
from nwb_migvis.evidence.readers.protocol import Examples, fit_readers
from nwb_migvis.labels import Label
from nwb_migvis.networks.image_networks import open_image_network
from nwb_migvis.networks.text_networks import open_text_network
from nwb_migvis.registry import (
    ANALYSES,
    IMAGE_NETWORKS,
    LATENT_MODELS,
    LAYOUTS,
    METHODS,
    READERS,
    TEXT_NETWORKS,
)
from nwb_migvis.store import validate_file
from nwb_migvis.testing import tiny_config, write_tiny_session

FOLDER = Path(__file__).parent / "third_party"
PACKAGE = FOLDER / "migvis_example"
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "extending.md"

CONFIG = tiny_config(
    latents={"n_steps": 10, "n_hidden": 16, "groups": [{"name": "a", "size": 4}, {"name": "b", "size": 4}]},
    prior={"n_steps": 2},
    critic={"n_steps": 3},
    synthesis={"n_pairs": 4, "n_dose": 0, "n_traversal": 0},
    evidence={
        "n_permutations": 9,
        "n_bootstrap": 9,
        "stability_seeds": 0,
        "reader_steps": 2,
        "information_draws": 1,
    },
)
NAMES = {
    'model = "group-vae"': 'model = "random-units"',
    'features = "trained"': 'features = "mean-color"',
    '"shuffled"': '"towards-gray"',
    '"kernel"': '"brightness"',
    'text_network = ""': 'text_network = "brightness"',
    "vocabulary = []": 'vocabulary = ["bright", "dark"]',
}

COMPUTE = """
import sys
from nwb_migvis import Config, Study, load_models, read_session
session, out, settings = sys.argv[1:]
study = Study(read_session(session, layout="epochs"), Config.from_toml(settings))
model = load_models(out).latents
print(type(model).__name__, model.loading().sum())
study.use_latents(model)
study.measure()
print(dict(study.compute("latent-spread").sizes))
found = study.compute("names")
print(found.sizes["word"], set(found["group_word"].values) <= {"", "bright", "dark"})
"""


def outside(*arguments):
    """Run Python where the package can be imported; return what it printed."""
    source = str(Path(sys.modules["nwb_migvis"].__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, str(FOLDER)])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A tiny session whose epochs name the images as well."""
    path = write_tiny_session(tmp_path_factory.mktemp("extending") / "session.nwb")
    read = read_session(path)
    names, stop_time = read["stimulus"].values[read["stimulus_index"].values], read["stop_time"].values
    with NWBHDF5IO(path, "r+") as io:
        nwbfile = io.read()
        for start, stop, name in zip(read["start_time"].values, stop_time, names, strict=True):
            nwbfile.add_epoch(start_time=start, stop_time=stop, tags=[str(name)])
        io.write(nwbfile)
    return path


@pytest.mark.slow
def test_every_addition_works_through_settings_and_the_command_line(session):
    settings, out = session.with_name("settings.toml"), session.with_name("out.nwb")
    text = CONFIG.to_toml()
    for ours, theirs in NAMES.items():
        assert ours in text
        text = text.replace(ours, theirs)
    settings.write_text(text)
    command = "import sys; from nwb_migvis.cli import main; main(sys.argv[1:])"
    reading = ["--layout", "epochs", "--quiet"]
    outside(
        "-c",
        command,
        "run",
        "--no-report",
        str(session),
        "--config",
        str(settings),
        "--out",
        str(out),
        *reading,
    )
    assert [finding for finding in validate_file(out) if finding.importance == "error"] == []
    results = read_results(out)
    assert results.provenance["session"]["layout"] == "epochs"
    assert results.provenance["config"]["latents"]["model"] == "random-units"
    assert results.provenance["config"]["critic"]["features"] == "mean-color"
    assert results.selectivity["reader"].values.tolist() == ["conv", "brightness"]
    edits = results.synthesized
    assert (edits["method"] == "towards-gray").sum() > 0
    printed = outside("-c", COMPUTE, str(session), str(out), str(settings))
    assert printed.splitlines() == ["RandomUnits 8.0", "{'latent': 8}", "2 True"]


def test_each_is_short_and_stands_in_the_document():
    text = DOCUMENT.read_text(encoding="utf-8")
    modules = [block.code for block in blocks(DOCUMENT) if block.language == "python"]
    files = [path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert len(files) == 7
    for path in files:
        source = path.read_text(encoding="utf-8")
        assert sum(bool(line.strip()) for line in source.splitlines()) < 40, path.name
        assert source in modules, path.name
    points = FOLDER / "migvis_example-1.0.dist-info" / "entry_points.txt"
    for group, name, value in _points(points.read_text()):
        assert f'[project.entry-points."{group}"]\n{name} = "{value}"\n' in text


def _points(text):
    group = ""
    for line in filter(None, text.splitlines()):
        if line.startswith("["):
            group = line.strip("[]")
        else:
            name, _, value = line.partition(" = ")
            yield group, name, value


@pytest.fixture
def installed(monkeypatch):
    """Install an entry point that holds something else than its kind is."""

    def install(registry, what):
        monkeypatch.setattr(sys.modules[__name__], "WRONG", what, raising=False)
        point = EntryPoint("wrong", f"{__name__}:WRONG", registry.group)
        monkeypatch.setattr(
            "nwb_migvis.registry.entry_points", lambda group: [point] if group == point.group else []
        )

    return install


@pytest.mark.parametrize(
    ("registry", "lacks"),
    [
        (LAYOUTS, "__call__"),
        (IMAGE_NETWORKS, "__call__"),
        (TEXT_NETWORKS, "__call__"),
        (READERS, "__call__"),
        (METHODS, "edit, other_target, other_group"),
        (LATENT_MODELS, "fit, load"),
        (ANALYSES, "needs, compute"),
    ],
)
def test_a_wrong_entry_of_each_kind_is_refused_with_what_it_lacks(registry, lacks, installed):
    installed(registry, SimpleNamespace())
    with pytest.raises(
        MigvisError, match=f"^{registry.kind} 'wrong'.* is a SimpleNamespace without {lacks};"
    ):
        registry["wrong"]


def test_what_wrong_entries_make_is_refused_with_what_it_lacks(session, installed):
    installed(LAYOUTS, lambda contents, stimulus: [{}])
    with pytest.raises(MigvisError, match="layout 'wrong': it yields a dict; expected Presentations"):
        read_session(session)
    installed(READERS, lambda train, validation, **how: SimpleNamespace(kind="wrong", codes=()))
    examples = Examples(np.zeros((4, 8, 8), np.uint8), {"x": Label.of("x", [0.0, 1.0, 2.0, 3.0])})
    with pytest.raises(MigvisError, match="reader 'wrong': it trains a SimpleNamespace without read, feat"):
        fit_readers(examples, examples, seed=0, kinds=["wrong"])
    installed(IMAGE_NETWORKS, lambda **about: SimpleNamespace(size_px=8, module=None))
    with pytest.raises(MigvisError, match=r"image network 'wrong': it opens a .* without mean, std"):
        open_image_network("wrong", model="", path="", sha256="")
    installed(TEXT_NETWORKS, lambda **about: SimpleNamespace(describe_images=np.zeros))
    with pytest.raises(MigvisError, match=r"network 'wrong': it opens a .* without describe_words; expected"):
        open_text_network("wrong:here")


def test_names_that_nobody_registered_are_refused_by_the_settings():
    for settings, values in [
        (LatentsConfig, {"model": "random-units"}),
        (CriticConfig, {"features": "mean-color"}),
        (EvidenceConfig, {"readers": ("brightness",)}),
        (SynthesisConfig, {"methods": ("pmi", "towards-gray")}),
    ]:
        (name,) = values
        with pytest.raises(MigvisError, match=f"found {name} = '.*'; expected one of"):
            settings(**values)
    with pytest.raises(MigvisError, match=r"found readers = \[\]; expected one or more, each once"):
        EvidenceConfig(readers=())
