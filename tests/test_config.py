"""Settings: round trips and refusals."""

import copy
import json
import pickle
import tomllib
from dataclasses import fields, replace

import pytest

from nwb_migvis import Config, MigvisError
from nwb_migvis.config import PRESETS, GroupConfig, PriorConfig

TIMM = "[critic]\nfeatures = 'timm'\nfeatures_model = '{}'\nfeatures_path = 'w'\nfeatures_sha256 = '{}'"


@pytest.mark.parametrize("preset", PRESETS)
def test_toml_and_json_round_trip(preset, tmp_path):
    config = Config.from_preset(preset)
    groups = (GroupConfig(name="pose", size=4, labels=("yaw", "size")), GroupConfig(name="free"))
    config = replace(config, latents=replace(config.latents, groups=groups, circular={"yaw": 360.0}), seed=7)
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml())
    assert Config.from_toml(path) == config
    assert Config.from_json(config.to_json()) == config


def test_values_not_given_keep_the_presets_own(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[prior]\nn_steps = 12\n")
    quick, paper = Config.from_toml(path), Config.from_toml(path, preset="paper")
    assert quick.prior.n_steps == paper.prior.n_steps == 12
    assert quick.prior.size_px == 64
    assert paper.prior.size_px == 128


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("speed = 3", "speed"),
        ("[prior]\nsteps = 3", "prior: steps"),
        ("[prior]\nn_steps = 'many'", "prior: n_steps: found 'many'"),
        ("seed = true", "seed: found True"),
        ("[latents]\ngroups = [{size = 3}]", r"groups\[0\]"),
        ("[latents]\ngroups = 3", "latents: groups: found 3"),
        ("preset = 'fast'", "'fast'"),
        ("[prior]\nn_steps = 0", "prior: found n_steps = 0; expected at least 1"),
        ("[prior]\nchannels = [12]", "multiples of 8"),
        ("[latents]\nlikelihood = 'normal'", "'normal'; expected one of poisson, gaussian"),
        ("[latents]\nlearning_rate = nan", "learning_rate = nan"),
        ("[latents]\ngroups = [{name = 'a,b'}]", "'a,b'"),
        ("[latents]\ngroups = [{name = 'a', size = 0}]", "size = 0; expected at least 1"),
        ("[split]\ntest = 0.95", "less than 1 together"),
        ("[synthesis]\nstrength = 1.5", "strength of 1.5"),
        ("[synthesis]\ngammas = [1.0, nan]", "gamma of nan; expected a finite length"),
        ("[synthesis]\ncritic_stop = -0.1", "critic_stop = -0.1"),
        ("[synthesis]\nguided_steps = -0.1", "critic_stop = -0.1"),
        ("[synthesis]\ncondition = 'much'", "synthesis: condition: found 'much'"),
        (
            "[synthesis]\ncondition = 1.0\nsource_guidance = 1.0",
            "synthesis: condition is the earlier name of source_guidance, which is there too; remove it",
        ),
        (
            "[synthesis]\nguidance_scale = 1.0\nadherence = 2.0",
            "adherence is the earlier name of guidance_scale",
        ),
        (
            "[synthesis]\nguided_steps = 0.5\ncritic_stop = 0.7",
            "guided_steps is the earlier name of critic_stop",
        ),
        ("device = 'warp'", "device = 'warp'; expected cpu, cuda or mps"),
        ("[synthesis]\nguidance_rescale = 1.5", "guidance_rescale = 1.5; expected 0 to 1"),
        ("[synthesis]\ncontrast_rescale = -0.1", "contrast_rescale = -0.1; expected 0 to 1"),
        ("[synthesis]\nmethods = ['pmi', 'magic']", "'magic'"),
        ("seed = 9223372036854775808", "seed = 9223372036854775808; expected less than"),
        ("[prior]\nn_timesteps = 30", "n_steps = 20 for a strength of 0.5"),
        ("[synthesis]\nmethods = ['pmi', 'none', 'pmi']", "expected each once"),
        ("[latents]\ncircular = {yaw = -360}", "yaw = -360; expected the period"),
        ("[latents]\ncircular = {yaw = inf}", "yaw = inf; expected the period"),
        ("[synthesis]\nmethods = ['none']", "'pmi' among them"),
        ("seed = ", "not valid TOML"),
        ("[critic]\nfeatures = 'dino'", "'dino'; expected one of trained, prior, auto, timm"),
        ("[critic]\nfeatures = 'timm'", "no features_model with features = 'timm'"),
        ("[critic]\nfeatures_path = 'w.pth'", "'w.pth' with features = 'auto'; expected it with 'timm'"),
        (TIMM.format("hf_hub:a/b", "0" * 64), "'hf_hub:a/b'; expected the name of an architecture"),
        (TIMM.format("resnet18", "0" * 63), "expected 64 digits"),
    ],
)
def test_a_wrong_setting_is_named(text, found, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(MigvisError, match=found):
        Config.from_toml(path)


def test_names_of_earlier_versions_are_read_and_not_written(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[synthesis]\ncondition = 1.5\nadherence = 2\nguided_steps = 0.25\nn_pairs = 3\n")
    config = Config.from_toml(path)
    named = {"source_guidance": 1.5, "guidance_scale": 2.0, "critic_stop": 0.25, "n_pairs": 3}
    assert config == replace(Config(), synthesis=replace(Config().synthesis, **named))
    earlier = json.loads(config.to_json())
    for old, new in (
        ("condition", "source_guidance"),
        ("adherence", "guidance_scale"),
        ("guided_steps", "critic_stop"),
    ):
        earlier["synthesis"][old] = earlier["synthesis"].pop(new)
        assert f"{new} = " in config.to_toml()
        assert f"{old} = " not in config.to_toml()
    assert Config.from_json(json.dumps(earlier)) == config
    with pytest.raises(MigvisError, match="latents: condition is not a setting"):
        Config.from_json('{"latents": {"condition": 1.0}}')


def test_a_trained_prior_is_trained_on_by_another_optimiser_than_a_new_one():
    assert PriorConfig().chosen_optimiser == ("muon", 2e-3)
    assert PriorConfig(start="renders").chosen_optimiser == ("adamw", 5e-4)
    assert PriorConfig(start="renders", optimiser="muon").chosen_optimiser == ("muon", 2e-3)
    assert PriorConfig(optimiser="adamw", learning_rate=0.1).chosen_optimiser == ("adamw", 0.1)


def test_what_runs_did_before_a_setting_is_not_the_presets_value(tmp_path):
    stored = Config().to_dict()
    assert Config.from_stored(stored) == Config()
    del stored["synthesis"]["inversion_tolerance"]
    assert Config.from_stored(stored).synthesis.inversion_tolerance == 3e-4
    assert Config.from_dict(stored).synthesis.inversion_tolerance == Config().synthesis.inversion_tolerance
    assert Config.from_stored({}).synthesis.inversion_tolerance == 3e-4
    del stored["synthesis"]["inversion"]
    assert Config.from_stored(stored).synthesis.inversion == "searched"
    assert Config.from_dict(stored).synthesis.inversion == Config().synthesis.inversion == "recorded"
    del stored["prior"]["optimiser"]
    assert Config.from_stored(stored).prior.chosen_optimiser == ("adamw", 5e-4)
    assert Config.from_dict(stored).prior.chosen_optimiser == ("muon", 2e-3)
    for wrong in ([], {"synthesis": 3}):
        with pytest.raises(MigvisError, match="expected a table of settings"):
            Config.from_stored(wrong)


def test_a_config_that_is_not_there(tmp_path):
    with pytest.raises(MigvisError, match="No such file"):
        Config.from_toml(tmp_path / "absent.toml")


def test_json_holds_every_setting():
    config = Config()
    assert set(json.loads(config.to_json())) == {f.name for f in fields(config)}
    assert tomllib.loads(config.to_toml())["latents"]["kl_weight"] == config.latents.kl_weight


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Config(seed="a"), "seed: found 'a'; expected int"),
        (lambda: Config(prior={"n_steps": 3}), "prior: found .* expected a PriorConfig"),
        (lambda: Config.from_json("{"), "config JSON is not valid"),
        (lambda: Config.from_json("[1]"), r"found \[1\]; expected a table"),
        (lambda: Config.from_json(None), "config JSON is not valid"),
        (lambda: Config.from_toml(b"x"), "config is b'x'; expected a path"),
        (lambda: replace(Config().latents, circular=3), "circular: found 3; expected a table"),
    ],
)
def test_misuse_in_python_is_one_line(make, message):
    with pytest.raises(MigvisError, match=message):
        make()


def test_no_part_of_a_config_changes():
    given = {"yaw": 360}
    latents = replace(Config().latents, circular=given)
    given["pitch"] = 180
    assert dict(latents.circular) == {"yaw": 360.0}
    with pytest.raises(TypeError):
        latents.circular["pitch"] = 180.0
    assert dict(Config().latents.circular) == {}
    assert hash(replace(Config(), latents=latents)) == hash(replace(Config(), latents=latents))
    assert copy.deepcopy(latents) == pickle.loads(pickle.dumps(latents)) == latents
