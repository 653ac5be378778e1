"""Every code block of the documents runs, or says above it why it does not."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from documents import Block, blocks
from layouts import new_file, unknown_series, write
from PIL import Image
from pynwb import NWBHDF5IO

import nwb_migvis
from nwb_migvis import Config
from nwb_migvis.cli import cli
from nwb_migvis.companions import places
from nwb_migvis.config import PRESETS
from nwb_migvis.testing import TINY_UNITS, tiny_config, write_tiny_session

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for path in DOCUMENTS for block in blocks(path)]

CHEAP = ("inspect", "validate", "report", "synthesize")
"""Commands that are run, not only parsed: `run` and `demo` have tests of their own."""

INSTALLATION = ("pip", "git", "python3", "cd", "source", ".ci/run", "pytest", "pre-commit", "python")
"""First words of shell commands that install and test the package, which the integration script does."""

WRITES = {'run("session.nwb"': "session_migvis.nwb", "write_sorted_session(": "session.nwb"}
"""What a block writes itself, so that it must not lie there before."""

TINY = tiny_config(
    latents={"n_steps": 10, "n_hidden": 16},
    prior={"n_steps": 2},
    critic={"n_steps": 3},
    synthesis={
        **{"n_pairs": 4, "n_dose": 1, "n_traversal": 1, "dose": [0.9], "methods": ["pmi"]},
        **{"n_steps": 2, "n_samples": 5},
    },
    evidence={
        "n_permutations": 9,
        "n_bootstrap": 9,
        "stability_seeds": 0,
        "reader_steps": 2,
        "information_draws": 1,
    },
)

METADATA = """
[session]
identifier = "monkey-1"
session_description = "Passive viewing."
session_start_time = 2026-01-31T09:30:00+01:00
[subject]
subject_id = "monkey"
species = "Macaca mulatta"
sex = "F"
age = "P7Y"
[device]
name = "array"
[electrodes]
location = "IT"
"""


def _chosen(language: str) -> list:
    return [pytest.param(b, id=str(b)) for b in BLOCKS if b.language == language and not b.is_marked]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with the files that the documents speak of; sessions are tiny."""
    folder = tmp_path_factory.mktemp("documents")
    session = write_tiny_session(folder / "session.nwb")
    with NWBHDF5IO(session, "r+") as io:
        nwbfile = io.read()
        ratings = ["good"] * len(nwbfile.units)
        nwbfile.add_unit_column(name="quality", description="Rating of the sorter.", data=ratings)
        io.write(nwbfile)
    nwb_migvis.run(session, config=TINY)
    (folder / "migvis_demo").mkdir()
    for name in ("session.nwb", "session_migvis.nwb"):
        shutil.copy(folder / name, folder / "migvis_demo" / name)
    for name, n_units in (("a", 8), ("b", 6)):
        path = write_tiny_session(folder / f"{name}.nwb", units={**TINY_UNITS, "pose": n_units})
        shutil.copy(path, folder / f"monkey_{name}.nwb")
    return folder


@pytest.fixture(scope="module")
def recorded() -> tuple:
    """A simulated recording and its sorting."""
    core = pytest.importorskip("spikeinterface.core")
    return core.generate_ground_truth_recording(durations=[20.0], num_units=5, num_channels=4, seed=0)


@pytest.fixture(scope="module")
def sorted_units(prepared, recorded) -> Path:
    """The same folder with sorted units, their presentations and images, metadata and a raw session."""
    core = pytest.importorskip("spikeinterface.core")
    recording, sorting = recorded
    analyzer = core.create_sorting_analyzer(
        sorting, recording, format="binary_folder", folder=prepared / "analyzer", sparse=False
    )
    analyzer.compute(["random_spikes", "noise_levels", "templates"], verbose=False)
    analyzer.compute("quality_metrics", metric_names=["snr", "isi_violation"], verbose=False)
    names = [f"im{i:02d}.png" for i in range(40)]
    (prepared / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(prepared / "images" / name)
    shown = np.tile(names, 3)
    table = pd.DataFrame({"start_time": 0.2 + 0.15 * np.arange(len(shown)), "stimulus": shown})
    table.to_csv(prepared / "presentations.csv", index=False)
    (prepared / "meta.toml").write_text(METADATA)
    raw = new_file([])
    raw.units = None
    raw.add_acquisition(unknown_series("voltage"))
    write(raw, prepared / "raw.nwb")
    return prepared


@pytest.fixture
def reader(prepared, tmp_path, monkeypatch):
    """Stand in a copy of the prepared folder, where runs take seconds."""
    folder = tmp_path / "reader"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    real = nwb_migvis.run
    monkeypatch.setattr(nwb_migvis, "run", lambda source, **given: real(source, **given | {"config": TINY}))
    monkeypatch.setitem(PRESETS, "quick", TINY)
    monkeypatch.setattr(places, "MOST_IMAGES", 6)
    return folder


def test_every_block_is_run_or_says_why_not():
    for block in BLOCKS:
        assert block.is_marked or block.language in ("python", "sh", "toml"), (
            f"{block}: a block that is not Python, sh or TOML wants <!-- not run: WHY --> above it"
        )
    assert {block.language for block in BLOCKS} >= {"python", "sh", "toml"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({b.document for b in BLOCKS if b.language == "python"}))
def test_python_blocks_run_in_order(name, sorted_units, recorded, reader, monkeypatch):
    from nwb_migvis import sorting

    real = sorting.load_sorting

    def load(folder):
        analyzer = real(folder)
        analyzer.set_temporary_recording(recorded[0])  # a reader's is on the disk
        return analyzer

    monkeypatch.setattr(sorting, "load_sorting", load)
    namespace = _readers_own(reader)
    for block in (b for b in BLOCKS if b.document == name and b.language == "python" and not b.is_marked):
        for call, path in WRITES.items():
            if call in block.code:
                (reader / path).unlink(missing_ok=True)
        code = compile("\n" * (block.line - 1) + block.code, str(ROOT / name), "exec")
        exec(code, namespace)


def _readers_own(folder: Path) -> dict[str, object]:
    """Return what a reader has in memory before a block begins: sorted units and their presentations."""
    from nwb_migvis.sorting import load_sorting, read_presentations

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analyzer = load_sorting(folder / "analyzer")
    return {"analyzer": analyzer, "presentations": read_presentations(folder / "presentations.csv")}


def _commands(block: Block) -> list[list[str]]:
    """Return the words of each command of a shell block, without comments."""
    commands = []
    for line in block.code.replace("\\\n", " ").splitlines():
        for part in re.split(r"\s&&\s", line):
            words = shlex.split(part, comments=True)
            if words:
                commands.append(words)
    return commands


@pytest.mark.parametrize("block", _chosen("sh"))
def test_commands_parse(block, sorted_units, reader):
    for program, *arguments in _commands(block):
        if program != "nwb-migvis":
            assert program in INSTALLATION, f"{block}: {program}"
            continue
        name, *rest = arguments
        command = cli.get_command(None, name)
        assert command is not None, f"{block}: no command {name}"
        command.make_context(name, [*rest])


@pytest.mark.slow
@pytest.mark.parametrize("block", _chosen("sh"))
def test_cheap_commands_run(block, reader, call):
    for program, *arguments in _commands(block):
        if program == "nwb-migvis" and arguments[0] in CHEAP:
            code, _, errors = call(*arguments)
            assert (code, errors) == (0, ""), f"{block}: {arguments}"


@pytest.mark.parametrize("block", _chosen("toml"))
def test_settings_are_read(block):
    settings = tomllib.loads(block.code)
    config = Config.from_dict(settings)
    for table, values in settings.items():
        for name in values:
            assert getattr(getattr(config, table), name) != getattr(getattr(Config(), table), name)
