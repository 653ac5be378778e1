"""A study: sessions, with what is learned from them step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.analysis.context import Clock, Context, torch_settings
from nwb_migvis.analysis.edits import SessionEdits, check_config_directions, planned_edits
from nwb_migvis.analysis.latents import SessionLatents, encode_session, fit_sessions, latents_of
from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.config import Config, GroupConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.results import Results

if TYPE_CHECKING:
    from nwb_migvis.analysis.networks import Pictures
    from nwb_migvis.latents.model import LatentModel
    from nwb_migvis.synthesis.critic.model import Critic
    from nwb_migvis.synthesis.editing.batch import EditNetworks
    from nwb_migvis.synthesis.prior.model import Prior

STEPS = ("latents", "prior", "critic", "edits", "evidence")
"""In order: a step that is done again undoes those behind it."""

_HOW = {
    "latents": "fit_latents() or use_latents(...)",
    "prior": "train_prior() or use_prior(...)",
    "critic": "train_critic() or use_critic(...)",
    "edits": "edit()",
    "evidence": "measure()",
}


class Study:
    """Latents, prior, critic, edits and evidence of one session, or of several around one latent space.

    Each step returns what it made and can be done again, which undoes the steps behind it. `run` does all of
    them for files.

    Parameters
    ----------
    sessions : xarray.Dataset, or sequence of them
        As `read_session` returns one, and `read_sessions` several.
    config : Config, optional
        The preset `quick` where it is None.
    name : str
        Name of the run, where it is written.
    clock : Clock, optional
        Collects the seconds that each stage takes.

    Examples
    --------
    >>> study = Study(read_session("session.nwb"))  # doctest: +SKIP
    >>> study.fit_latents()  # doctest: +SKIP
    >>> study.train_prior(); study.train_critic()  # doctest: +SKIP
    >>> study.edit(); study.measure()  # doctest: +SKIP
    >>> study.write("out.nwb")  # doctest: +SKIP
    """

    def __init__(
        self,
        sessions: xr.Dataset | Sequence[xr.Dataset],
        config: Config | None = None,
        *,
        name: str = "migvis",
        clock: Clock | None = None,
    ):
        self._one = isinstance(sessions, xr.Dataset)
        together = [sessions] if isinstance(sessions, xr.Dataset) else list(sessions)
        if not together:
            raise MigvisError("found 0 sessions; expected one or more, as read_session returns them")
        self.name = name
        self._sessions = Sessions.of(together)
        self._context = Context(config or Config(), clock or Clock())
        self._made: dict[str, Any] = {}

    @property
    def config(self) -> Config:
        """The settings, with the values that were really used as far as the steps have gone."""
        return self._context.config

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that each stage took so far."""
        return self._context.clock.seconds

    @property
    def has_images(self) -> bool:
        """Whether a session holds pixels, without which nothing is synthesized."""
        return bool(self._sessions.pictured)

    # Latents

    def fit_latents(self) -> Any:
        """Split the stimuli and fit the latent model.

        Returns
        -------
        SessionLatents, or list of them for several sessions

        Raises
        ------
        MigvisError
            If there are too few stimuli, the sessions share too few, or a label cannot be used.
        """
        with self._step():
            latents = fit_sessions(self._sessions, self._context)
        return self._take_latents(latents)

    def use_latents(
        self, latents: LatentModel | np.ndarray | xr.DataArray | Sequence[Any], *, groups: Any = None
    ) -> Any:
        """Use latents from elsewhere instead of fitting them.

        Parameters
        ----------
        latents : LatentModel, or array (stimulus, latent)
            A model that was fitted to the same units; or the latents themselves, rows in the order of the
            session's stimuli. Then nothing is known of responses: variance explained, loadings and
            stability are not measured. One for each session, where there are several.
        groups : sequence of GroupConfig, optional
            The groups of an array's latents; one group `given` where it is None. A model knows its own.

        Returns
        -------
        SessionLatents, or list of them for several sessions

        Raises
        ------
        MigvisError
            If the shape does not fit.
        """
        from nwb_migvis.analysis.given import GivenLatents

        each = [latents] if self._one else list(latents)
        if len(each) != len(self._sessions):
            raise MigvisError(
                f"found {len(each)} sets of latents; expected one per session, {len(self._sessions)}"
            )
        encoded = []
        with self._step():
            labels = self._sessions.labels(self.config)
            split = self._sessions.split(self.config, self._context.rng("split"))
            for i, (given, session) in enumerate(zip(each, self._sessions.sessions, strict=True)):
                model = given if hasattr(given, "encode") else GivenLatents.of(given, session, groups)
                own = {"split": split[self._sessions.rows[i]], "labels": self._sessions.labels_of(i, labels)}
                encoded.append(encode_session(model, session, **own))
        return self._take_latents(encoded)

    def latents_of(self, session: xr.Dataset, *, like: int = 0) -> xr.Dataset:
        """Encode new trials, another window or another session of the same units.

        Parameters
        ----------
        session : xarray.Dataset
            As `read_session` returns it.
        like : int
            Position of the session whose units these are, where the study has several.

        Returns
        -------
        xarray.Dataset, dims (stimulus, latent)
            `mean`, `log_var`; coordinates `group` and `n_presentations`.

        Raises
        ------
        MigvisError
            If there are no latents yet, or the session lacks a unit.
        """
        latents = self._need("latents", to="encode a session")[like]
        return latents_of(latents, session, self._sessions.sessions[like]["unit"].values)

    # Prior and critic

    def train_prior(self) -> Prior:
        """Train the diffusion prior on the images of the training stimuli.

        Raises
        ------
        MigvisError
            If there are no latents yet, or no pixels.
        """
        from nwb_migvis.analysis.networks import obtain_prior, start_of

        self._need("latents", to="train the prior")
        with self._step():
            start = start_of(self.config)
            pictures = self._pictures(start)
            prior = obtain_prior(pictures, start, self._context)
        return self._take_prior(prior, pictures)

    def use_prior(self, prior: Prior | bytes | str | Path) -> Prior:
        """Use a prior that is trained already.

        Parameters
        ----------
        prior : Prior, bytes, or path
            A prior, the bytes that a file holds of one, or a folder that `prior.start` could name.

        Raises
        ------
        MigvisError
            If it makes images of another shape, or was trained with latents of other groups.
        """
        from nwb_migvis.synthesis.prior.folder import open_prior
        from nwb_migvis.synthesis.prior.model import load_prior

        self._need("latents", to="use a prior")
        if isinstance(prior, bytes):
            prior = load_prior(prior)
        elif isinstance(prior, (str, Path)):
            prior = open_prior(str(prior))
        with self._step():
            prior = prior.to(self._context.device)
            pictures = self._pictures(prior)
        embedding, groups = prior.denoiser.latents, pictures.groups
        if embedding is not None and tuple(embedding.sizes) != groups.sizes:
            raise MigvisError(
                f"the prior was trained with groups of {list(embedding.sizes)} latents; expected those of the "
                f"study, {list(groups.sizes)}; train it again, or use one that is not conditional"
            )
        if not prior.is_conditional and self.config.synthesis.is_conditioned:
            raise MigvisError(
                "the prior is not conditional, and synthesis.source_guidance or guidance_scale asks for it; "
                "set both to 0, or use a conditional prior"
            )
        settings = replace(self.config.prior, conditional=prior.is_conditional)
        self._set_config(prior=settings)
        return self._take_prior(prior, pictures)

    def train_critic(self) -> Critic:
        """Train the critic that scores images against latents.

        Raises
        ------
        MigvisError
            If there is no prior yet.
        """
        from nwb_migvis.analysis.networks import obtain_critic

        prior = self._need("prior", to="train the critic")
        with self._step():
            critic = obtain_critic(self._made["pictures"], prior, self._context)
        self._take("critic", critic)
        return critic

    def use_critic(self, critic: Critic | bytes) -> Critic:
        """Use a critic that is trained already, or the bytes that a file holds of one.

        Raises
        ------
        MigvisError
            If there is no prior yet, or it was trained with latents of other groups.
        """
        from nwb_migvis.synthesis.critic.model import load_critic

        prior = self._need("prior", to="use a critic")
        if isinstance(critic, bytes):
            critic = load_critic(critic, prior=prior)
        groups = self._made["pictures"].groups
        if tuple(critic.sizes) != groups.sizes:
            raise MigvisError(
                f"the critic was trained with groups of {list(critic.sizes)} latents; expected those of the "
                f"study, {list(groups.sizes)}"
            )
        self._take("critic", critic)
        return critic

    # Edits and evidence

    def edit(self, *, session: int = 0, **request: Any) -> Any:
        """Make the edits that the settings plan; or further ones that are asked for by name.

        Parameters
        ----------
        session : int
            Position of the session whose images further edits are of, where there are several.
        **request
            `group`, `source`, `target`, `strength`, `gamma`, `direction`, `n`, `seed`, as in
            `synthesize_more`. With any, these edits are made and added to those there are.

        Returns
        -------
        xarray.Dataset, or list of them for several sessions
            The edits, as `Results.synthesized`; of a request, the new ones alone.

        Raises
        ------
        MigvisError
            If there is no critic yet, or the request does not fit.
        """
        self._need("critic", to="edit")
        if request:
            return self._edit_by_name(session, request)
        edits = [SessionEdits() for _ in self._sessions.sessions]
        pictures, latents = self._made["pictures"], self._made["latents"]
        with self._step():
            samples = self._samples()
            for i in self._sessions.pictured:
                own = planned_edits(self._stimuli(i), latents[i], self._networks(), self._context)
                edits[i] = replace(own, trained_on=pictures.image[pictures.train], samples=samples)
        self._take("edits", edits)
        return self._each([own.synthesized for own in edits])

    def measure(self) -> Any:
        """Gather the evidence: variance, labels, stability, and what the edits show where there are any.

        Returns
        -------
        pandas.DataFrame, or list of them for several sessions
            As `Results.groups`.

        Raises
        ------
        MigvisError
            If there are no latents yet.
        """
        from nwb_migvis.analysis.evidence import gather_evidence

        latents = self._need("latents", to="measure")
        edits = self._made.get("edits") or [SessionEdits() for _ in latents]
        with self._step():
            evidence = gather_evidence(self._sessions, latents, edits, self._context)
        self._take("evidence", evidence)
        tables: list[pd.DataFrame] = [own.groups for own in evidence]
        return self._each(tables)

    def compute(self, name: str) -> Any:
        """Compute a further analysis, by the name that it is registered under.

        Returns
        -------
        xarray.Dataset

        Raises
        ------
        MigvisError
            If there is no analysis of that name, or a step that it needs is missing.
        """
        from nwb_migvis.registry import ANALYSES

        analysis = ANALYSES[name]
        for step in analysis.needs:
            self._need(step, to=f"compute {name!r}")
        with self._step():
            return analysis.compute(self)

    # Results

    @property
    def results(self) -> Results | list[Results]:
        """What was found, as `run` returns it; a list for several sessions.

        Raises
        ------
        MigvisError
            If nothing was measured yet.
        """
        return self._each([results for results, _ in self._assembled()])

    @property
    def weights(self) -> Any:
        """safetensors bytes of the networks by name, as they are stored; a list for several sessions."""
        return self._each([weights for _, weights in self._assembled()])

    def write(
        self, out: str | Path | None = None, *, in_place: bool = False, overwrite: bool = False
    ) -> Path | list[Path]:
        """Write the results into a copy of each session's file.

        Parameters
        ----------
        out : path, optional
            The file to write, with several sessions an existing folder; a sibling `NAME_migvis.nwb` where it
            is None.
        in_place, overwrite
            As for `run`.

        Raises
        ------
        MigvisError
            If nothing was measured yet, a session was not read from a file, or as for `run`.
        """
        from nwb_migvis.analysis.writing import write_study

        paths = write_study(self._sessions, self._assembled(), out, in_place=in_place, overwrite=overwrite)
        return self._each(paths)

    def __repr__(self) -> str:
        sessions = self._sessions
        units = ", ".join(str(session.sizes["unit"]) for session in sessions.sessions)
        done = [step for step in STEPS if step in self._made]
        lines = [
            f"Study {self.name!r}: {len(sessions)} session{'s' if len(sessions) > 1 else ''} "
            f"({', '.join(name or 'in memory' for name in sessions.names)})",
            f"  {units} units, {sessions.stimuli.sizes['stimulus']} stimuli"
            f"{'' if self.has_images else ', no pixels'}",
            f"  preset {self.config.preset}, seed {self.config.seed}, {self.config.device}",
            f"  done: {', '.join(done) or 'nothing yet'}",
        ]
        if "latents" in self._made:
            lines.append(f"  {self._made['latents'][0].groups!r}")
        missing = next((step for step in STEPS if step not in self._made), None)
        if missing:
            lines.append(f"  next: {_HOW[missing]}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(repr(self))}</pre>"

    # State

    def _step(self) -> Any:
        """Return the surroundings in which a step is taken: threads and determinism of torch."""
        return _Surroundings(self)

    def _set_config(self, **parts: Any) -> None:
        self._context = replace(self._context, config=replace(self.config, **parts))

    def _take(self, step: str, value: Any) -> None:
        """Keep what a step made, and forget the steps behind it."""
        for later in STEPS[STEPS.index(step) :]:
            self._made.pop(later, None)
        self._made.pop("assembled", None)
        if step in ("latents", "prior"):
            self._made.pop("samples", None)
        self._made[step] = value

    def _need(self, step: str, *, to: str) -> Any:
        if step in ("prior", "critic") and not self.has_images:
            raise MigvisError(
                f"found no pixels of the images; expected them to {to}; read the session with its images "
                "(images=FOLDER)"
            )
        if step not in self._made:
            raise MigvisError(f"found no {step}; expected them to {to}; first call {_HOW[step]}")
        return self._made[step]

    def _take_latents(self, latents: list[SessionLatents]) -> Any:
        groups: tuple[GroupConfig, ...] = tuple(latents[0].model.groups)
        self._set_config(latents=replace(self.config.latents, groups=groups))
        self._take("latents", latents)
        return self._each(latents)

    def _take_prior(self, prior: Prior, pictures: Pictures) -> Prior:
        from nwb_migvis.analysis.networks import settings_of

        self._take("prior", prior)
        self._made["pictures"] = pictures
        self._set_config(prior=settings_of(prior, self.config.prior))
        return prior

    def _pictures(self, prior: Prior | None) -> Pictures:
        from nwb_migvis.analysis.networks import Pictures

        latents = self._made["latents"]
        if not self.has_images:
            self._need("prior", to="train or use a prior")
        for i in self._sessions.pictured:
            try:
                check_config_directions(latents[i], self.config)
            except MigvisError as error:
                raise MigvisError(f"{self._sessions.where(i)}{error}") from None
        return Pictures.of(self._sessions, latents, prior or self.config.prior, self._context)

    def _samples(self) -> np.ndarray:
        from nwb_migvis.analysis.networks import draw_samples

        if "samples" not in self._made:
            self._made["samples"] = draw_samples(self._made["prior"], self._context)
        return self._made["samples"]

    def _networks(self) -> EditNetworks:
        from nwb_migvis.synthesis.editing.batch import EditNetworks

        return EditNetworks(self._made["prior"], self._made["critic"], self._made["pictures"].groups)

    def _stimuli(self, i: int) -> Any:
        from nwb_migvis.synthesis.editing.synthesize import EditStimuli

        pictures, latents = self._made["pictures"], self._made["latents"][i]
        return EditStimuli(
            self._sessions.sessions[i]["stimulus"].values,
            pictures.image[pictures.of_session[i]],
            self._made["critic"].scale.standardise(latents.mean),
        )

    def _edit_by_name(self, i: int, asked: Mapping[str, Any]) -> xr.Dataset:
        from nwb_migvis.analysis.edits import requested_directions
        from nwb_migvis.synthesis.editing.request import EditRequest, plan_request
        from nwb_migvis.synthesis.editing.synthesize import synthesize

        if i not in self._sessions.pictured:
            raise MigvisError(
                f"session {i} has no pixels or does not exist; expected one of {self._sessions.pictured}"
            )
        request = EditRequest(**dict(asked))
        latents, stimuli = self._made["latents"][i], self._stimuli(i)
        request.check_against(latents.groups, stimuli.name, self.config)
        edits = list(self._made.get("edits") or [SessionEdits() for _ in self._sessions.sessions])
        table = latents.to_dataset(stimuli.name)
        own = {"labels": latents.labels, "config": self.config}
        with self._step(), self._context.clock.of("edits"):
            made = synthesize(
                plan_request(request, table, n_edits=edits[i].n_edits, **own),
                stimuli,
                self._networks(),
                config=self.config.synthesis,
                seed=self.config.seed if request.seed is None else request.seed,
                directions=requested_directions(request, table, stimuli.z, **own),
            )
        edits[i] = edits[i].with_further(made, stimuli)
        self._take("edits", edits)
        return made

    def _assembled(self) -> list[tuple[Results, dict[str, bytes]]]:
        from nwb_migvis.analysis.assembling import assemble

        evidence = self._need("evidence", to="give results")
        if "assembled" not in self._made:
            latents = self._made["latents"]
            edits = self._made.get("edits") or [SessionEdits() for _ in latents]
            networks = {
                name: self._made[name].to_bytes() for name in ("critic", "prior") if name in self._made
            }
            self._made["assembled"] = [
                assemble(self.name, *parts, networks=networks, context=self._context)
                for parts in zip(self._sessions.sessions, latents, edits, evidence, strict=True)
            ]
        return self._made["assembled"]

    def _each(self, values: Sequence[Any]) -> Any:
        return values[0] if self._one else list(values)


class _Surroundings:
    """torch's settings during a step; records the number of threads that are really used."""

    def __init__(self, study: Study):
        self._study = study
        self._settings = torch_settings(study.config)

    def __enter__(self) -> None:
        self._study._set_config(n_threads=self._settings.__enter__())

    def __exit__(self, *exception: Any) -> None:
        self._settings.__exit__(*exception)
