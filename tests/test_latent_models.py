"""Latent models by name: a run with each, what it writes, and what is not a latent model."""

from dataclasses import replace

import numpy as np
import pytest

from nwb_migvis import MigvisError, Study, load_models, read_session, run
from nwb_migvis.config import Config, LatentsConfig
from nwb_migvis.latents.protocol import LatentModelKind, load_latent_model
from nwb_migvis.networks.weights import pack
from nwb_migvis.registry import LATENT_MODELS
from nwb_migvis.store import validate_file
from nwb_migvis.testing import tiny_config, write_tiny_session

GROUPS = [{"name": "numeric", "size": 4, "labels": ["rotation_x", "rotation_y"]}, {"name": "rest", "size": 5}]


def config_of(model):
    return tiny_config(
        latents={"model": model, "n_steps": 20, "n_hidden": 16, "groups": GROUPS},
        prior={"n_steps": 2},
        critic={"n_steps": 3},
        synthesis={"n_pairs": 4, "n_dose": 0, "n_traversal": 0, "methods": ["pmi"]},
        evidence={"n_permutations": 9, "n_bootstrap": 9, "reader_steps": 2, "stability_seeds": 1},
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny_session(tmp_path_factory.mktemp("models") / "session.nwb")


@pytest.fixture(scope="module")
def reference(path):
    return run(path, out=path.with_name("reference.nwb"), config=config_of("group-vae"))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["pca", "fa", "plain-vae", "swap-vae"])
def test_a_baseline_gives_the_same_tables_in_a_file_that_gives_it_back(model, path, reference):
    config = config_of(model)
    study = Study(read_session(path), config)
    fitted = study.fit_latents()
    out = path.with_name(f"{model}.nwb")
    results = run(path, out=out, config=config)
    assert [f for f in validate_file(out) if f.importance == "error"] == []
    for table in ("latents", "units", "synthesized", "selectivity", "decoding"):
        assert set(getattr(results, table)) == set(getattr(reference, table)), table
    assert list(results.groups) == list(reference.groups)
    names = ["content", "style"] if model == "swap-vae" else ["numeric", "rest"]
    assert list(results.groups.index) == names
    assert np.isfinite(results.groups["variance_explained"]).all()
    models = load_models(out)
    assert models.config.latents.model == model
    average = np.random.default_rng(0).poisson(2.0, (7, 24)).astype(float)
    for again, own in zip(models.latents.encode(average), fitted.model.encode(average), strict=True):
        np.testing.assert_array_equal(again, own)
    np.testing.assert_array_equal(results.latents["mean"], fitted.mean)


def test_settings_without_a_model_mean_the_group_vae():
    assert Config.from_dict({"latents": {"n_steps": 5}}).latents.model == "group-vae"
    with pytest.raises(MigvisError, match="found model = 'ica'; expected one of group-vae, pca, fa"):
        LatentsConfig(model="ica")


def test_weights_name_their_kind():
    with pytest.raises(MigvisError, match="are not of a network of nwb-migvis"):
        load_latent_model(b"nothing of the kind")
    with pytest.raises(MigvisError, match="latent model 'critic' is unknown"):
        load_latent_model(pack("critic", {}, {}))


class Half:
    """Something with half of what a latent model has."""

    groups = ()

    def encode(self, average):
        return average, average


class Whole(Half):
    def __init__(self, kind):
        self.kind = kind

    def rates(self, z):
        return z

    def loading(self):
        return np.eye(2)

    def to_bytes(self):
        return pack(self.kind, {}, {})


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            [Half()],
            "latents.model = 'half': found a Half without rates, loading, to_bytes; expected a latent",
        ),
        ([], "latents.model = 'half': fitted 0 models; expected one per session, 1"),
        ([Whole("other")], "its to_bytes names the kind 'other'; expected 'half', the name that"),
    ],
)
def test_what_is_no_latent_model_is_refused(models, message, path):
    session = read_session(path)
    LATENT_MODELS.register("half", LatentModelKind(lambda *given, **settings: models, lambda weights: None))
    try:
        study = Study(session, replace(config_of("half"), synthesis=tiny_config().synthesis))
        with pytest.raises(MigvisError, match=message):
            study.fit_latents()
    finally:
        LATENT_MODELS.unregister("half")


def test_a_study_uses_what_is_a_latent_model_of_a_registered_kind(path):
    study = Study(read_session(path), config_of("group-vae"))
    with pytest.raises(MigvisError, match="latents: found a Half without rates, loading, to_bytes"):
        study.use_latents(Half())
    with pytest.raises(MigvisError, match="names the kind 'mine'; expected one of group-vae, pca"):
        study.use_latents(Whole("mine"))
    other = Study(read_session(path), config_of("pca"))
    study.use_latents(other.fit_latents().model)
    assert study.config.latents.model == "pca"
