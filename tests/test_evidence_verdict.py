import numpy as np
import pytest

from nwb_migvis.evidence.decoding import Reading
from nwb_migvis.evidence.independence import group_dependence
from nwb_migvis.evidence.transfer import Draws, category_transfer, numeric_transfer
from nwb_migvis.evidence.verdict import PART_COLUMNS, Part, part_columns, verdict_in_parts
from nwb_migvis.groups import LatentGroups
from nwb_migvis.levels import Exchange

YES = Part(0.4, (0.2, 0.6), 0.01, 0.02)
NO = Part(0.1, (-0.1, 0.3), 0.3, 0.3)
NEGATIVE = Part(-0.02, (-0.1, 0.1), 0.001, 0.002)
FREE = {"repeatable": YES, "beyond_labels": YES, "stable": YES}


@pytest.mark.parametrize(
    ("parts", "supervised", "begins"),
    [
        ({"repeatable": YES, "decoded": YES}, True, "established: repeatable, decoded"),
        ({"decoded": YES}, True, "established: decoded"),
        ({"repeatable": YES, "decoded": YES, "shown": NO}, True, "not established: not shown by edits"),
        ({"repeatable": NEGATIVE, "decoded": YES}, True, "not established: not repeatable; decoded"),
        ({"repeatable": YES}, True, "not measured: decoded; repeatable"),
        ({"stable": YES}, True, "not measured: decoded; stable"),
        (FREE, False, "established: repeatable, beyond all labels, stable"),
        (FREE | {"stable": NO}, False, "not established: not stable"),
        (FREE | {"beyond_labels": NO}, False, "not established: not beyond all labels"),
        ({"repeatable": YES, "beyond_labels": YES}, False, "not measured: stable"),
        ({}, False, "not measured"),
    ],
)
def test_a_verdict_needs_its_parts(parts, supervised, begins):
    assert verdict_in_parts(parts, supervised=supervised).startswith(begins)


def test_nothing_is_established_where_the_design_cannot_tell():
    verdict = verdict_in_parts(FREE, supervised=False, confounded_with="time: images come in blocks")
    assert verdict == "confounded with time: images come in blocks"


def test_what_the_split_cannot_test_says_why():
    verdict = verdict_in_parts({"repeatable": YES}, supervised=True, unmeasured="set split.by = 'object'")
    assert verdict == "not measured: decoded (set split.by = 'object'); repeatable"


def test_parts_fill_their_columns():
    columns = part_columns({"decoded": YES})
    assert tuple(columns) == PART_COLUMNS
    assert columns["decoded_low"] == 0.2 and columns["decoded_q"] == 0.02 and np.isnan(columns["shown"])


def dependence(seed, *, correlation):
    rng = np.random.default_rng([4, seed])
    z = rng.normal(size=(120, 4))
    z[:, 2:] = correlation * z[:, :2] + np.sqrt(1 - correlation**2) * z[:, 2:]
    groups = LatentGroups(("a", "b"), (2, 2), ((), ()))
    return group_dependence(z, groups, Reading(exchange=Exchange.singles(120), seed=seed, n_permutations=19))


def test_dependence_of_groups_is_told_from_chance():
    free = [dependence(seed, correlation=0.0)["p_value"].item() for seed in range(30)]
    bound = [dependence(seed, correlation=0.6)["p_value"].item() for seed in range(10)]
    assert np.mean(np.array(free) <= 0.05) <= 0.17 and max(bound) == 0.05
    assert dependence(0, correlation=0.6)["score"].item() > 0.2


@pytest.mark.parametrize("n_classes", [2, 8])
def test_edits_that_depend_on_their_source_alone_transfer_nothing(n_classes):
    p_values = []
    for seed in range(60):
        rng = np.random.default_rng([9, n_classes, seed])
        source, target = rng.integers(0, n_classes, (2, 96))
        edit = np.where(rng.random(96) < 0.5, (source + 1) % n_classes, source)
        p_values.append(category_transfer(edit, target, source=source, draws=Draws(seed, 5, 39)).p_value)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.13


@pytest.mark.parametrize("reader_r2", [0.95, 0.5])
def test_a_flawless_edit_transfers_all_of_a_number_whatever_the_noise_of_its_reader(reader_r2):
    rng = np.random.default_rng(5)
    target, source = rng.normal(size=(2, 2000))
    noise = np.sqrt(1 / reader_r2 - 1)

    def read(label):
        return reader_r2 * (label + noise * rng.normal(size=len(label)))

    readings = read(target), read(target), read(source)
    draws = Draws(0, 50, 99)
    plain = numeric_transfer(*readings[:2], source=readings[2], draws=draws)
    corrected = numeric_transfer(*readings[:2], source=readings[2], draws=draws, truth=(target, source))
    assert plain.transfer == pytest.approx(reader_r2, abs=0.05)
    assert corrected.transfer == pytest.approx(1, abs=0.05) and abs(corrected.retention) < 0.05
    assert corrected.p_value == 0.01
    assert corrected.transfer_interval[0] < 1 < corrected.transfer_interval[1]
