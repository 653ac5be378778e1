"""The networks of a written run, rebuilt from the bytes in its file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nwb_migvis.config import Config
from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import MODELS, require
from nwb_migvis.groups import LatentGroups
from nwb_migvis.results import Results
from nwb_migvis.sources import Source, as_source
from nwb_migvis.store import building, check_models, read_results, read_weights

if TYPE_CHECKING:
    from nwb_migvis.latents.protocol import LatentModel
    from nwb_migvis.synthesis.critic.model import Critic
    from nwb_migvis.synthesis.editing.batch import EditNetworks
    from nwb_migvis.synthesis.prior.model import Prior


@dataclass(frozen=True)
class Models:
    """The networks of a run: `Study.use_latents`, `use_prior` and `use_critic` take them.

    Attributes
    ----------
    latents : LatentModel or None
        None where the latents were given as an array.
    prior : Prior or None
        None where the session had no pixels, or the prior was too large to store.
    critic : Critic or None
    groups : LatentGroups
    config : Config
        The run's.
    """

    latents: LatentModel | None
    prior: Prior | None
    critic: Critic | None
    groups: LatentGroups
    config: Config

    def __repr__(self) -> str:
        there = [name for name in ("latents", "prior", "critic") if getattr(self, name) is not None]
        return f"Models: {', '.join(there) or 'none'}; {self.groups!r}"


def load_models(path: str | Source, name: str | None = None) -> Models:
    """Rebuild the latent model, the prior and the critic of a written run.

    Parameters
    ----------
    path : path, or address
        A file that `run` or `Study.write` wrote.
    name : str, optional
        The run, where the file holds several.

    Raises
    ------
    MigvisError
        If the file holds no such run, or its weights are not those that the run recorded.
    """
    require(MODELS, what="loading models")
    from nwb_migvis.latents.protocol import load_latent_model
    from nwb_migvis.synthesis.critic.model import load_critic
    from nwb_migvis.synthesis.prior.model import load_prior

    path = as_source(path, what="file")
    results = read_results(path, name)
    config = run_config(path, results)
    weights = checked_weights(path, results)
    needs_prior = config.critic.features != "trained"
    with building(f"{path}: /analysis/{results.name}/model"):
        prior = load_prior(weights["prior"]) if "prior" in weights else None
        has_critic = "critic" in weights and (prior is not None or not needs_prior)
        return Models(
            load_latent_model(weights["vae"]) if "vae" in weights else None,
            prior,
            load_critic(weights["critic"], prior=prior) if has_critic else None,
            LatentGroups.of(config.latents.groups),
            config,
        )


def edit_networks(weights: Mapping[str, bytes], config: Config) -> EditNetworks:
    """Rebuild prior and critic from their bytes, on the device of the settings."""
    from nwb_migvis.synthesis.critic.model import load_critic
    from nwb_migvis.synthesis.editing.batch import EditNetworks
    from nwb_migvis.synthesis.prior.model import load_prior

    with building("its model"):
        prior = load_prior(weights["prior"]).to(config.device)
        critic = load_critic(weights["critic"], prior=prior).to(config.device)
    return EditNetworks(prior, critic, LatentGroups.of(config.latents.groups))


def run_config(path: Source, results: Results) -> Config:
    """Return the settings of a run."""
    if "config" not in results.provenance:
        raise MigvisError(
            f"{path}: run {results.name!r} holds no settings; expected a run of `nwb-migvis run`"
        )
    return Config.from_stored(results.provenance["config"], where=f"{path}: config of {results.name!r}")


def checked_weights(path: Source, results: Results, *, needs: Sequence[str] = ()) -> dict[str, bytes]:
    """Return the weights of a run: those that are needed are there, and all are those that it recorded."""
    weights = read_weights(path, results.name)
    recorded = results.provenance.get("weights", {})
    for network in needs:
        if network not in weights:
            why = "; ".join(note for note in results.provenance.get("notes", ()) if "prior" in note)
            raise MigvisError(
                f"{path}: run {results.name!r} holds no weights of the {network}"
                f"{f' ({why})' if why else ''}; expected those that it was made with; run the model again"
            )
    for network, data in weights.items():
        digest = hashlib.sha256(data).hexdigest()
        if recorded.get(network) != digest:
            raise MigvisError(
                f"{path}: the weights of the {network} in run {results.name!r} have the sha256 "
                f"{digest[:12]}...; expected {str(recorded.get(network))[:12]}..., which the run recorded; "
                "fetch the file again, or run the model again"
            )
    check_models(weights, results, path=path)
    return weights
