"""What a study has made so far, and what each step needs of the ones before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.analysis.context import Context, torch_settings
from nwb_migvis.analysis.edits import (
    SessionEdits,
    check_config_directions,
    edits_towards,
    requested_directions,
)
from nwb_migvis.analysis.further import STEPS, checked_analysis
from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.config import Config
from nwb_migvis.config.companions import PRIOR
from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json
from nwb_migvis.results import Results

if TYPE_CHECKING:
    from nwb_migvis.analysis.evidence import SessionEvidence
    from nwb_migvis.analysis.latents import SessionLatents
    from nwb_migvis.analysis.networks import Pictures, PriorRecord
    from nwb_migvis.synthesis.editing.batch import EditNetworks
    from nwb_migvis.synthesis.editing.request import EditRequest
    from nwb_migvis.synthesis.editing.synthesize import EditStimuli
    from nwb_migvis.synthesis.prior.model import Prior

HOW = {
    "latents": "fit_latents() or use_latents(...)",
    "prior": "train_prior() or use_prior(...)",
    "critic": "train_critic() or use_critic(...)",
    "edits": "edit()",
    "evidence": "measure()",
}
"""How each step is taken."""


class StudyState:
    """What the steps of a study have made.

    Parameters
    ----------
    sessions : Sessions
    context : Context
    """

    def __init__(self, sessions: Sessions, context: Context):
        self.sessions, self.context = sessions, context
        self._made: dict[str, Any] = {}
        self._analyses: dict[str, xr.Dataset] = {}
        self._rests_on: dict[str, set[str]] = {}

    @property
    def config(self) -> Config:
        """The settings, with the values that were actually used as far as the steps have gone."""
        return self.context.config

    @property
    def done(self) -> list[str]:
        """Steps that were taken."""
        return [step for step in STEPS if step in self._made]

    @property
    def steps(self) -> tuple[str, ...]:
        """Steps that these sessions allow, in order: without pixels nothing is learned of images."""
        return STEPS if self.sessions.pictured else ("latents", "evidence")

    def describe(self, name: str) -> str:
        """Return what a study of this name is and has done, and what comes next."""
        sessions, done = self.sessions, self.done
        units = ", ".join(str(session.sizes["unit"]) for session in sessions.sessions)
        lines = [
            f"Study {name!r}: {len(sessions)} session{'s' if len(sessions) > 1 else ''} "
            f"({', '.join(name or 'in memory' for name in sessions.names)})",
            f"  {units} units, {sessions.stimuli.sizes['stimulus']} stimuli"
            f"{'' if sessions.pictured else ', no pixels'}",
            f"  preset {self.config.preset}, seed {self.config.seed}, {self.config.device}",
            f"  done: {', '.join(done) or 'nothing yet'}",
        ]
        if "latents" in done:
            lines.append(f"  {self._made['latents'][0].groups!r}")
        missing = next((step for step in self.steps if step not in done), None)
        if missing:
            lines.append(f"  next: {HOW[missing]}")
        return "\n".join(lines)

    @contextmanager
    def step(self) -> Iterator[Context]:
        """Set torch's threads and determinism, and make the cache's folder; yield what surrounds a step."""
        if self.config.checkpoints:
            from nwb_migvis.synthesis.prior.cache import check_cache

            check_cache(self.config.checkpoints)
        with torch_settings(self.config) as n_threads:
            self.set_config(n_threads=n_threads)
            yield self.context

    def set_config(self, **parts: Any) -> None:
        """Put values that were actually used into the settings."""
        self.context = replace(self.context, config=replace(self.config, **parts))

    def choose_critic(self) -> None:
        """Put what "auto" stands for with these images into the critic's settings."""
        from nwb_migvis.analysis.judges import chosen_critic

        n_train = int(self.pictures().train.sum())
        self.set_config(critic=chosen_critic(self.config, n_train))

    def take(self, step: str, value: Any) -> None:
        """Keep what a step made, and forget the steps after it."""
        undone = STEPS[STEPS.index(step) :]
        for later in undone:
            self._made.pop(later, None)
        self._made.pop("assembled", None)
        for name in [name for name, steps in self._rests_on.items() if steps & set(undone)]:
            del self._analyses[name], self._rests_on[name]
        if step == "latents":
            self._made.pop("refits", None)
        if step in ("latents", "prior"):
            self._made.pop("samples", None)
            self._made.pop("pictures", None)
        self._made[step] = value

    def analyse(self, name: str, study: Any) -> xr.Dataset:
        """Compute a further analysis of a study, and keep it for the results of every session."""
        from nwb_migvis.results.analyses import canonical_analysis

        analysis = checked_analysis(name, self.sessions, self.config)
        for step in analysis.needs:
            if step in STEPS:
                self.need(step, to=f"compute {name!r}")
        with self.step() as context, context.clock.of(name):
            made = canonical_analysis(name, analysis.compute(study))
        self._analyses[name] = made
        steps = {"latents", *analysis.needs, *getattr(analysis, "uses", ())}
        steps |= {"prior"} if self.config.companions.network == PRIOR else set()
        self._rests_on[name] = steps & set(self.done)
        self._made.pop("assembled", None)
        return made

    def check_analyses(self) -> None:
        """Refuse settings that ask for an analysis that these sessions do not allow."""
        for name in self.config.analyses:
            checked_analysis(name, self.sessions, self.config)

    def take_latents(self, latents: list[SessionLatents]) -> None:
        """Keep latents, and put their groups and the kind of their model into the settings."""
        from nwb_migvis.latents.protocol import kind_of_model

        used = replace(self.config.latents, groups=tuple(latents[0].model.groups))
        if latents[0].knows_responses:
            used = replace(used, model=kind_of_model(latents[0].model))
        self.set_config(latents=used)
        self.take("latents", latents)

    def take_prior(self, prior: Prior, pictures: Pictures, record: PriorRecord | None = None) -> None:
        """Keep a prior with the images at its size, and what the provenance says of it."""
        from nwb_migvis.analysis.networks import settings_of

        self.take("prior", prior)
        self._made["prior record"] = record
        self._made["pictures"] = pictures
        self.set_config(prior=settings_of(prior, self.config.prior))

    def need(self, step: str, *, to: str) -> Any:
        """Return what a step made, or say that it is missing.

        Raises
        ------
        MigvisError
        """
        if step in ("prior", "critic"):
            self.need_images(to=to)
        if step not in self._made:
            raise MigvisError(f"found no {step}; expected some to {to}; first call {HOW[step]}")
        return self._made[step]

    def need_images(self, *, to: str) -> None:
        """Refuse sessions without pixels."""
        if not self.sessions.pictured:
            raise MigvisError(
                f"found no pixels of the images; expected some to {to}; read the session with its images "
                "(images=FOLDER)"
            )

    @property
    def edits(self) -> list[SessionEdits]:
        """The edits of each session; none before they are made."""
        return list(self._made.get("edits") or [SessionEdits() for _ in self.sessions.sessions])

    @property
    def seen(self) -> Json | None:
        """What the critic's features are, as they record it; None before there is a critic."""
        critic = self._made.get("critic")
        return None if critic is None else critic.network.features.record()

    def pictures(self, prior: Prior | None = None) -> Pictures:
        """Return the images of all sessions: at a prior's size, as before, or at the settings' size."""
        from nwb_migvis.analysis.networks import Pictures

        if prior is None and "pictures" in self._made:
            return self._made["pictures"]
        self.need_images(to="train or use a prior")
        latents = self.need("latents", to="train or use a prior")
        for i in self.sessions.pictured:
            try:
                check_config_directions(latents[i], self.config)
            except MigvisError as error:
                raise MigvisError(f"{self.sessions.where(i)}{error}") from None
        return Pictures.of(self.sessions, latents, prior or self.config.prior, self.context)

    def samples(self) -> np.ndarray:
        """Return unguided samples of the prior, drawn once."""
        from nwb_migvis.analysis.networks import draw_samples

        if "samples" not in self._made:
            self._made["samples"] = draw_samples(self._made["prior"], self.context)
        return self._made["samples"]

    def refits(self, *, fit: bool = True) -> list[list[np.ndarray]]:
        """Return the latents of fits from other seeds, made once; where `fit` is false, those there are.

        None either where the study's latents were given as arrays.
        """
        from nwb_migvis.analysis.latents import refits

        latents, made = self.need("latents", to="fit them from other seeds"), self._made.get("refits", [])
        n_seeds = self.config.evidence.stability_seeds
        if len(made) != n_seeds:
            made = []
            if fit and all(own.knows_responses for own in latents):
                made = self._made["refits"] = refits(self.sessions, self.context)
        return made

    def measure(self) -> list[SessionEvidence]:
        """Gather the evidence of every session, and keep it."""
        from nwb_migvis.analysis.evidence import gather_evidence
        from nwb_migvis.analysis.judges import chosen_judges

        latents, seen = self.need("latents", to="measure"), self.seen
        if any(own.n_edits for own in self.edits):
            self.set_config(evidence=chosen_judges(self.config, seen))
        with self.step() as context:
            evidence = gather_evidence(
                self.sessions, latents, self.edits, context, seen=seen, reseeded=self.refits
            )
        self.take("evidence", evidence)
        return evidence

    def networks(self) -> EditNetworks:
        """Return what edits are made with."""
        from nwb_migvis.synthesis.editing.batch import EditNetworks

        return EditNetworks(self._made["prior"], self._made["critic"], self.pictures().groups)

    def stimuli(self, i: int) -> EditStimuli:
        """Return what edits of a session start from and aim at."""
        from nwb_migvis.synthesis.editing.support import Support
        from nwb_migvis.synthesis.editing.synthesize import EditStimuli

        pictures, latents = self.pictures(), self._made["latents"][i]
        z = self._made["critic"].scale.standardise(latents.mean)
        return EditStimuli(
            self.sessions.sessions[i]["stimulus"].values,
            pictures.image[pictures.of_session[i]],
            z,
            Support.of(z, latents.split),
        )

    def edit_by_name(self, request: EditRequest, i: int) -> xr.Dataset:
        """Make the requested edits of a session, and add them to the existing ones."""
        from nwb_migvis.synthesis.editing.request import plan_request
        from nwb_migvis.synthesis.editing.synthesize import synthesize

        self._check_pictured(i)
        latents, stimuli, edits = self._made["latents"][i], self.stimuli(i), self.edits
        request.check_against(latents.groups, stimuli.name, self.config)
        table = latents.to_dataset(stimuli.name)
        own: Mapping[str, Any] = {"labels": latents.labels, "config": self.config}
        with self.step() as context, context.clock.of("edits"):
            further = synthesize(
                plan_request(request, table, n_edits=edits[i].n_edits, **own),
                stimuli,
                self.networks(),
                config=self.config.synthesis,
                seed=self.config.seed if request.seed is None else request.seed,
                directions=requested_directions(request, table, stimuli.z, **own),
            )
        edits[i] = edits[i].with_further(further, stimuli)
        self.take("edits", edits)
        return further

    def edit_towards(self, latents: np.ndarray, sources: Sequence[str], i: int) -> xr.Dataset:
        """Edit images of a session towards latents (goal, latent), group by group."""
        critic = self.need("critic", to="edit")
        self._check_pictured(i)
        goal = np.asarray(latents, dtype=np.float32)
        stimuli, n = self.stimuli(i), critic.scale.mean.size
        if goal.ndim != 2 or goal.shape[1] != n or not np.isfinite(goal).all():
            raise MigvisError(
                f"latents: found the shape {goal.shape} or values that are not finite; expected (goal, {n})"
            )
        rows = pd.Index(stimuli.name.astype(str)).get_indexer(sources)
        if not len(rows) or (rows < 0).any():
            absent = [name for name, row in zip(sources, rows, strict=True) if row < 0]
            raise MigvisError(
                f"source: found {absent[0]!r}; expected ids of the session's stimuli"
                if absent
                else "source: found no stimulus; expected one or more ids"
            )
        with self.step():
            z = critic.scale.standardise(goal)
            return edits_towards(z, rows, stimuli=stimuli, networks=self.networks(), config=self.config)

    def _check_pictured(self, i: int) -> None:
        if i not in self.sessions.pictured:
            raise MigvisError(
                f"session {i} does not exist or has no pixels; expected one of {self.sessions.pictured}"
            )

    def assembled(self, name: str) -> list[tuple[Results, dict[str, bytes]]]:
        """Return the results of each session with the weights that are stored beside them."""
        from nwb_migvis.analysis.assembling import TrainedNetworks, assemble

        evidence = self.need("evidence", to="give results")
        if "assembled" not in self._made:
            networks = TrainedNetworks(
                {key: self._made[key].to_bytes() for key in ("critic", "prior") if key in self._made},
                self._made.get("prior record") if "prior" in self._made else None,
            )
            self._made["assembled"] = [
                self._with_analyses(
                    assemble(
                        name, session, latents, edits, evidence=own, networks=networks, context=self.context
                    ),
                    place,
                )
                for place, (session, latents, edits, own) in enumerate(
                    zip(self.sessions.sessions, self._made["latents"], self.edits, evidence, strict=True)
                )
            ]
        return self._made["assembled"]

    def so_far(self, name: str) -> list[Results]:
        """Return latents and edits of each session, of which nothing is measured."""
        from nwb_migvis.analysis.assembling import unmeasured

        latents = self.need("latents", to="show what there is")
        return [
            unmeasured(name, session, own, edits, context=self.context)
            for session, own, edits in zip(self.sessions.sessions, latents, self.edits, strict=True)
        ]

    def _with_analyses(
        self, one: tuple[Results, dict[str, bytes]], place: int
    ) -> tuple[Results, dict[str, bytes]]:
        results, weights = one
        own = {name: _own_first(data, place) for name, data in self._analyses.items()}
        return replace(results, analyses=own), weights


def _own_first(data: xr.Dataset, place: int) -> xr.Dataset:
    """Return an analysis of several sessions with the one at a place before the others."""
    n = data.sizes.get("session", 1)
    return data if n == 1 else data.isel(session=[place, *(i for i in range(n) if i != place)])
