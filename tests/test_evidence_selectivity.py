import numpy as np
import pytest
import xarray as xr
from scipy import stats

from nwb_migvis.evidence.selectivity import (
    EditScoring,
    dose_response,
    measure_selectivity,
    selectivity_index,
)
from nwb_migvis.evidence.transfer import Confusion, Draws, category_transfer, numeric_transfer
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import LabelCode, as_labels
from nwb_migvis.multiplicity import benjamini_hochberg
from nwb_migvis.results import no_selectivity


def test_planted_transfer_and_retention_are_found():
    rng = np.random.default_rng(0)
    target, source = rng.normal(size=(2, 64)) * 20 + 100
    edit = 0.6 * target + 0.3 * source + 5 + rng.normal(size=64)
    found = numeric_transfer(edit, target, source=source, draws=Draws(0))
    design = np.column_stack([target, source, np.ones(64)])
    expected = np.linalg.lstsq(design, edit, rcond=None)[0]
    np.testing.assert_allclose([found.transfer, found.retention], expected[:2])
    assert found.transfer == pytest.approx(0.6, abs=0.03)
    assert found.transfer_interval[0] < 0.6 < found.transfer_interval[1]
    assert found.retention_interval[0] < 0.3 < found.retention_interval[1]
    assert found.transfer_interval[1] - found.transfer_interval[0] < 0.1
    assert found.p_value == 0.001
    assert found.n_pairs == 64


def test_interval_has_the_width_of_the_standard_error():
    rng = np.random.default_rng(1)
    target, source = rng.normal(size=(2, 400))
    edit = 0.5 * target + 0.5 * source + rng.normal(size=400)
    found = numeric_transfer(edit, target, source=source, draws=Draws(0))
    for low, high in (found.transfer_interval, found.retention_interval):
        assert (high - low) / (2 * 1.96) == pytest.approx(1 / np.sqrt(400), rel=0.15)


def test_randomising_a_label_is_no_transfer():
    rng = np.random.default_rng(2)
    edit, target, source = rng.normal(size=(3, 2000))
    found = numeric_transfer(edit, target, source=source, draws=Draws(0))
    assert abs(found.transfer) < 0.06 and abs(found.retention) < 0.06
    naive = np.polyfit(target - source, edit - source, 1)[0]
    assert naive == pytest.approx(0.5, abs=0.05)


def test_columns_of_a_wrapping_label_share_their_slopes():
    rng = np.random.default_rng(3)
    angle = rng.uniform(0, 2 * np.pi, size=(2, 200))
    target, source = (np.column_stack([np.cos(a), np.sin(a)]) for a in angle)
    found = numeric_transfer(0.7 * target + 0.2 * source + [3.0, -3.0], target, source=source, draws=Draws(0))
    assert found.transfer == pytest.approx(0.7)
    assert found.retention == pytest.approx(0.2)


def test_numeric_p_values_are_uniform_without_transfer():
    p = []
    for seed in range(200):
        rng = np.random.default_rng([4, seed])
        target, source = rng.normal(size=(2, 16)) + np.array([[100.0], [20.0]])
        edit = 0.8 * source + 0.5 * rng.normal(size=16)
        p.append(numeric_transfer(edit, target, source=source, draws=Draws(seed, 2, 99)).p_value)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_transfer_against_the_target_has_no_small_p_value():
    rng = np.random.default_rng(5)
    target, source = rng.normal(size=(2, 40))
    assert numeric_transfer(-target, target, source=source, draws=Draws(0)).p_value == 1.0


def test_numeric_transfer_needs_enough_pairs_that_differ():
    rng = np.random.default_rng(6)
    edit, target, source = rng.normal(size=(3, 20))
    missing = np.where(np.arange(20) < 13, np.nan, target)
    assert np.isnan(numeric_transfer(edit, missing, source=source, draws=Draws(0)).transfer)
    assert numeric_transfer(edit, missing, source=source, draws=Draws(0)).n_pairs == 7
    for same in (np.full(20, 3.0), source):
        found = numeric_transfer(edit, same, source=source, draws=Draws(0))
        assert np.isnan([found.transfer, found.retention, found.p_value, *found.transfer_interval]).all()


def test_category_transfer_by_hand():
    source = np.array([0] * 10 + [1] * 6 + [-1])
    target = np.array([1] * 10 + [1] * 6 + [0])
    edit = np.array([1] * 7 + [0] * 2 + [2] + [1] * 6 + [0])
    found = category_transfer(edit, target, source=source, draws=Draws(0))
    assert found.n_pairs == 10  # equal or unknown labels do not count
    assert found.transfer == pytest.approx(0.7)
    assert found.retention == pytest.approx(0.2)
    assert found.transfer_interval[0] < 0.7 < found.transfer_interval[1]
    few = category_transfer(edit[:7], target[:7], source=source[:7], draws=Draws(0))
    assert np.isnan([few.transfer, few.retention, few.p_value]).all()


def test_category_transfer_of_random_edits_is_chance():
    rng = np.random.default_rng(7)
    source, target, edit = rng.integers(0, 5, size=(3, 4000))
    found = category_transfer(edit, target, source=source, draws=Draws(0))
    assert found.transfer == pytest.approx(0.2, abs=0.03)
    assert found.retention == pytest.approx(0.2, abs=0.03)


def test_category_p_values_are_valid_without_transfer_and_small_with_it():
    p = []
    for seed in range(200):
        rng = np.random.default_rng([8, seed])
        source, target, random = rng.integers(0, 4, size=(3, 40))
        edit = np.where(rng.random(40) < 0.5, source, random)
        p.append(category_transfer(edit, target, source=source, draws=Draws(seed, 2, 99)).p_value)
    assert stats.kstest(p, "uniform", alternative="greater").pvalue > 0.01
    assert np.mean(np.array(p) < 0.5) > 0.35
    assert category_transfer(target, target, source=source, draws=Draws(0)).p_value == 0.001


def test_selectivity_indices_by_hand():
    supervised = {"pose": ("x", "y"), "category": ("kind",), "free": ()}
    transfer = {
        ("pose", "x"): 0.8,
        ("pose", "y"): 0.6,
        ("pose", "kind"): 0.1,
        ("category", "x"): 0.2,
        ("category", "y"): 0.4,
        ("category", "kind"): 0.9,
        ("free", "x"): 0.9,
    }
    retention = {("pose", "kind"): 0.95, ("category", "x"): 0.7, ("category", "y"): 0.5}
    si_transfer, si_strict = selectivity_index(transfer, retention, supervised_by=supervised)
    assert si_transfer == pytest.approx(((0.7 - 0.1) + (0.9 - 0.3)) / 2)
    assert si_strict == pytest.approx(((0.7 - 0.05) + (0.9 - 0.4)) / 2)
    transfer["pose", "y"] = transfer["category", "y"] = np.nan
    si_transfer, _ = selectivity_index(transfer, retention, supervised_by=supervised)
    assert si_transfer == pytest.approx(((0.8 - 0.1) + (0.9 - 0.2)) / 2)
    transfer["category", "kind"] = np.nan
    assert np.isnan(selectivity_index(transfer, retention, supervised_by=supervised)).all()


class PixelReader:
    """Reads the labels that are written into the first pixels, `x` shrunk and `kind` as its class."""

    kind = "pixel"
    codes = (LabelCode("x"), LabelCode("dim"), LabelCode("kind", classes=("cat", "dog", "owl")))

    def read(self, images):
        x = 0.8 * images[:, 0, 0].astype(float) + 20
        return {"x": x, "dim": 0.001 * x, "kind": np.eye(3)[images[:, 0, 1]]}


def fake_session(n, rng):
    images = np.zeros((n, 2, 2), np.uint8)
    x, kind = rng.integers(0, 200, n), rng.integers(0, 3, n)
    images[:, 0, 0], images[:, 0, 1] = x, kind
    labels = {
        "x": x.astype(float),
        "dim": rng.normal(size=n),
        "kind": np.array(["cat", "dog", "owl"], dtype=object)[kind],
        "flat": np.ones(n),
    }
    return images, as_labels(labels)


def fake_edits(images, ids, *, methods, rng):
    """Edits of `pmi` in group pose take over x, in group kind the class; others change nothing."""
    rows = []
    for method in methods:
        for group in ("pose", "kind", "free_1"):
            for source, target in rng.integers(0, len(ids), size=(64, 2)):
                image = images[source].copy()
                if method == "pmi" and group in ("pose", "kind"):
                    changed = 0 if group == "pose" else 1
                    image[0, changed] = images[target][0, changed]
                rows.append((image, group, ids[source], ids[target], method, "main"))
    image, group, source, target, method, role = zip(*rows, strict=True)
    coords = {"group": group, "source": source, "target": target, "method": method, "role": role}
    coords = {name: ("edit", np.array(values, dtype=object)) for name, values in coords.items()}
    return xr.Dataset({"image": (("edit", "y", "x"), np.stack(image))}, coords=coords)


@pytest.fixture(scope="module")
def measured():
    rng = np.random.default_rng(9)
    images, labels = fake_session(300, rng)
    ids = [f"image_{i}" for i in range(300)]
    edits = fake_edits(images, ids, methods=("pmi", "none"), rng=rng)
    other = edits.isel(edit=slice(0, 10)).assign_coords(role=("edit", ["dose"] * 10))
    other["image"] = xr.zeros_like(other["image"])
    other = other.assign_coords(target=("edit", [""] * 10))
    return measure_selectivity(
        xr.concat([edits, other], dim="edit"),
        EditScoring(
            images=images,
            stimulus=ids,
            labels=labels,
            readers=[PixelReader()],
            test=np.arange(300) >= 150,
            draws=Draws(0, 50, 99),
        ),
        groups=LatentGroups(("pose", "kind", "free_1"), (2, 2, 2), (("x", "dim"), ("kind",), ())),
    ).squeeze("reader")


def test_selectivity_has_the_documented_layout(measured):
    expected = no_selectivity()
    assert set(measured.data_vars) == set(expected.data_vars)
    for name, variable in expected.data_vars.items():
        assert measured[name].dims == tuple(d for d in variable.dims if d != "reader")
    assert measured["group"].values.tolist() == ["pose", "kind", "free_1"]
    assert measured["label"].values.tolist() == ["x", "dim", "kind", "flat"]
    assert measured["method"].values.tolist() == ["pmi", "none"]


def test_selectivity_of_perfect_edits(measured):
    ours, unguided = measured.isel(method=0), measured.isel(method=1)
    np.testing.assert_allclose(ours["transfer"].sel(label="x"), [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(ours["retention"].sel(label="x"), [0, 1, 1], atol=1e-9)
    np.testing.assert_allclose(ours["transfer"].sel(label="kind"), [0, 1, 0])
    np.testing.assert_allclose(ours["retention"].sel(label="kind"), [1, 0, 1])
    np.testing.assert_allclose(unguided["transfer"].sel(label=["x", "kind"]), 0, atol=1e-9)
    np.testing.assert_allclose([ours["si_transfer"], ours["si_strict"]], 1)
    np.testing.assert_allclose([unguided["si_transfer"], unguided["si_strict"]], 0, atol=1e-9)
    assert ours["p_value"].sel(group="pose", label="x") == 0.01
    assert ours["p_value"].sel(group="kind", label="kind") == 0.01
    assert ours["p_value"].sel(group="free_1", label="kind") == 1.0


def test_labels_that_are_not_read_are_not_measured(measured):
    assert measured["reader_score"].sel(label="kind") == 1.0
    assert measured["reader_score"].sel(label="dim") < 0.3
    assert np.isnan(measured["reader_score"].sel(label="flat"))
    assert np.isnan(measured["transfer"].sel(label=["dim", "flat"])).all()
    assert np.isnan(measured["p_value"].sel(label=["dim", "flat"])).all()


def test_selectivity_without_main_edits():
    rng = np.random.default_rng(10)
    images, labels = fake_session(50, rng)
    ids = [str(i) for i in range(50)]
    edits = fake_edits(images, ids, methods=("pmi",), rng=rng).isel(edit=slice(0, 0))
    found = measure_selectivity(
        edits,
        EditScoring(
            images=images,
            stimulus=ids,
            labels=labels,
            readers=[PixelReader()],
            test=np.ones(50, bool),
            draws=Draws(0),
        ),
        groups=LatentGroups(("pose",), (2,), (("x",),)),
    )
    assert found.sizes["method"] == 0
    assert found["reader_score"].sel(label="kind").item() == 1.0


def test_dose_response_follows_the_dose():
    rng = np.random.default_rng(11)
    images, labels = fake_session(200, rng)
    ids = [str(i) for i in range(200)]
    rows = [(dose, *pair) for dose in (0.3, 0.1) for pair in rng.integers(0, 200, size=(40, 2))]
    edited = images[[source for _, source, _ in rows]].copy()
    for image, (dose, source, target) in zip(edited, rows, strict=True):
        image[0, 0] = round((1 - dose) * images[source, 0, 0] + dose * images[target, 0, 0])
    coords = {
        "group": ("edit", ["pose"] * 80),
        "role": ("edit", ["dose"] * 80),
        "guidance": ("edit", [dose for dose, _, _ in rows]),
        "source": ("edit", [ids[source] for _, source, _ in rows]),
        "target": ("edit", [ids[target] for _, _, target in rows]),
    }
    found = dose_response(
        xr.Dataset({"image": (("edit", "y", "x"), edited)}, coords=coords),
        EditScoring(
            images=images,
            stimulus=ids,
            labels=labels,
            readers=[PixelReader()],
            test=np.arange(200) >= 100,
            draws=Draws(0, 20, 19),
        ),
        groups=LatentGroups(("pose", "free_1"), (2, 2), ((), ())),
    )
    assert found["guidance"].values.tolist() == [0.1, 0.3]
    transfer = found["transfer"].sel(group="pose", label="x", reader="pixel")
    np.testing.assert_allclose(transfer, [0.1, 0.3], atol=0.01)
    assert np.isnan(found["transfer"].sel(group="free_1")).all()


def noisy(truth, rates, rng):
    """Readings of classes by a reader that errs at the rates (class, class)."""
    return (rates[truth].cumsum(axis=1) > rng.random((len(truth), 1))).argmax(axis=1)


def test_flawless_edits_have_full_numeric_transfer_whatever_the_readers_noise():
    rng = np.random.default_rng(20)
    value = rng.normal(size=400)
    source, target = rng.permutation(400), rng.permutation(400)
    for noise in (0.3, 1.0):
        reading = 0.7 * (value + noise * rng.normal(size=400))
        edit = 0.7 * (value[target] + noise * rng.normal(size=400))
        ends = {"source": reading[source], "ends": (source, target)}
        truth = value[target], value[source]
        biased = numeric_transfer(edit, reading[target], draws=Draws(0, 50, 19), **ends)
        found = numeric_transfer(edit, reading[target], draws=Draws(0, 50, 19), truth=truth, **ends)
        assert found.transfer == pytest.approx(1, abs=0.15) and abs(found.retention) < 0.15
        assert biased.transfer == pytest.approx(1 / (1 + noise**2), abs=0.1)


@pytest.mark.parametrize("k", [2, 3, 6])
def test_category_transfer_corrects_the_readers_confusion(k):
    rng = np.random.default_rng(21)
    rates = 0.75 * np.eye(k) + 0.25 * rng.dirichlet(np.ones(k), size=k)
    truth = rng.integers(0, k, 3000)
    confusion = Confusion(truth, noisy(truth, rates, rng), k)
    np.testing.assert_allclose(confusion.rates(), rates, atol=0.05)
    source = rng.integers(0, k, 3000)
    target = (source + rng.integers(1, k, 3000)) % k
    for shown, expected in ((target, (1, 0)), (source, (0, 1))):
        read = noisy(shown, rates, rng)
        found = category_transfer(
            read, target, source=source, draws=Draws(0, 20, 1), confusion=confusion, ends=None
        )
        np.testing.assert_allclose((found.transfer, found.retention), expected, atol=0.06)
    perfect = category_transfer(target, target, source=source, draws=Draws(0, 20, 1))
    assert (perfect.transfer, perfect.retention) == (1, 0)


def test_nothing_can_be_permuted_with_two_categories():
    source = np.arange(40) % 2
    found = category_transfer(1 - source, 1 - source, source=source, draws=Draws(0, 20, 19))
    assert found.transfer == 1 and np.isnan(found.p_value)


def test_edits_that_depend_on_their_source_alone_pass_at_the_level():
    p = []
    for seed in range(300):
        rng = np.random.default_rng([22, seed])
        source = rng.integers(0, 3, 60)
        target = (source + rng.integers(1, 3, 60)) % 3
        # Cats become owls, whatever is asked for.
        read = 0.6 * np.eye(3)[(source + 2) % 3] + 0.4 * rng.dirichlet(np.ones(3), size=60)
        p.append(category_transfer(read, target, source=source, draws=Draws(seed, 2, 99)).p_value)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_overshoot_of_one_label_does_not_pay_for_shortfall_of_another():
    supervised = {"pose": ("x", "y"), "category": ("kind",)}
    transfer = dict.fromkeys([(g, n) for g in supervised for n in ("x", "y", "kind")], 0.0)
    transfer |= {("category", "kind"): 1.0, ("pose", "x"): 1.3, ("pose", "y"): 0.7}
    retention = dict.fromkeys(transfer, 1.0)
    si_transfer, si_strict = selectivity_index(transfer, retention, supervised_by=supervised)
    assert si_transfer == pytest.approx((0.7 + 1) / 2) and si_strict == pytest.approx((0.7 + 1) / 2)
    retention["category", "x"] = 1.2
    _, si_strict = selectivity_index(transfer, retention, supervised_by=supervised)
    assert si_strict == pytest.approx((0.7 + 1 - 0.1) / 2)


def test_pairs_of_one_source_are_resampled_together():
    rng = np.random.default_rng(23)
    source = np.repeat(np.arange(10), 8)
    target = np.arange(100, 180)
    effect = rng.normal(size=10)[source]
    value = rng.normal(size=180)
    arguments = {"source": value[source], "draws": Draws(0, 400, 1)}
    edit = value[target] * (1 + effect)
    alone = numeric_transfer(edit, value[target], **arguments)
    together = numeric_transfer(edit, value[target], ends=(source, target), **arguments)
    assert together.transfer == alone.transfer
    width = [np.subtract(*found.transfer_interval[::-1]) for found in (alone, together)]
    assert width[1] > 1.2 * width[0]


def test_q_values_are_adjusted_over_all_cells(measured):
    np.testing.assert_allclose(
        measured["q_value"].values, benjamini_hochberg(measured["p_value"].values), equal_nan=True
    )


def test_intervals_of_the_indices_hold_the_indices(measured):
    for name in ("si_transfer", "si_strict"):
        assert (measured[f"{name}_low"] <= measured[name] + 1e-9).all()
        assert (measured[f"{name}_high"] >= measured[name] - 1e-9).all()
