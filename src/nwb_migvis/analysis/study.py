"""A study: sessions, with what is learned from them step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_migvis.analysis.context import Clock, Context
from nwb_migvis.analysis.edits import SessionEdits, planned_edits
from nwb_migvis.analysis.latents import encode_session, fit_sessions, latents_of
from nwb_migvis.analysis.made import Made
from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.analysis.state import STEPS, StudyState
from nwb_migvis.config import Config
from nwb_migvis.engines import Engine
from nwb_migvis.errors import MigvisError
from nwb_migvis.results import Results

if TYPE_CHECKING:
    from nwb_migvis.latents.protocol import LatentModel
    from nwb_migvis.synthesis.critic.model import Critic
    from nwb_migvis.synthesis.prior.model import Prior


class Study(Made):
    """Latents, prior, critic, edits and evidence of one session, or of several around one latent space.

    Each step returns what it made and can be done again, which undoes the steps after it. `run` does all of
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
    engine : {"loop", "joblib", "dask"}
        What the further fits of `measure` are done with, which do not need each other: those from other seeds
        (`evidence.stability_seeds`) and those that hold out other stimuli (`split.folds`). Each uses as many
        threads as the study, so that the results are the same, bit for bit.
    engine_kwargs : mapping, optional
        joblib: `n_jobs`. dask: `client`, or the `address` of a scheduler. As for `run_batch`.

    Raises
    ------
    MigvisError
        If there is no session, or the engine cannot be had.

    Notes
    -----
    Counts are held in memory, as floats where some are missing: those of a session that was read with
    `chunks` are loaded whole. Images are read a few hundred at a time, and are held at the prior's size.

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
        engine: str = "loop",
        engine_kwargs: Mapping[str, Any] | None = None,
    ):
        together = [sessions] if isinstance(sessions, xr.Dataset) else list(sessions)
        if not together:
            raise MigvisError("found 0 sessions; expected one or more, as read_session returns them")
        context = Context(config or Config(), clock or Clock(), Engine.of(engine, engine_kwargs))
        state = StudyState(Sessions.of(together), context)
        super().__init__(name, state, one=isinstance(sessions, xr.Dataset))

    def run(self, *, after: Callable[[str], None] | None = None) -> Results | list[Results]:
        """Take every step that the sessions allow, with new networks; return the results.

        Parameters
        ----------
        after : callable, optional
            Called after each step with its name: "latents", "prior", "critic", "edits", "evidence".
        """
        self._state.check_analyses()
        ways = (self.fit_latents, self.train_prior, self.train_critic, self.edit, self.measure)
        take = dict(zip(STEPS, ways, strict=True))
        for step in self._state.steps:
            take[step]()
            if after is not None:
                after(step)
        for name in self.config.analyses:
            self.compute(name)
        return self.results

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
        with self._state.step() as context:
            latents = fit_sessions(self._state.sessions, context)
        self._state.take_latents(latents)
        return self._each(latents)

    def use_latents(
        self,
        latents: LatentModel | np.ndarray | xr.DataArray | Sequence[Any],
        *,
        groups: Any = None,
        split: np.ndarray | None = None,
    ) -> Any:
        """Use latents from elsewhere instead of fitting them.

        Parameters
        ----------
        latents : LatentModel, or array (stimulus, latent)
            A model that was fitted to the same units; or the latents themselves, rows in the order of the
            session's stimuli. Then nothing is known about responses: variance explained, loadings and
            stability are not measured. One per session, where there are several.
        groups : sequence of GroupConfig, optional
            The groups of an array's latents; one group `given` where it is None. A model knows its own.
        split : numpy.ndarray of str, shape (n_stimuli,), optional
            "train", "validation" or "test" for each stimulus of all sessions; drawn where it is None.

        Returns
        -------
        SessionLatents, or list of them for several sessions

        Raises
        ------
        MigvisError
            If the shape does not fit, or a model lacks something or is of a kind that is not registered.
        """
        from nwb_migvis.analysis.given import given_model

        sessions = self._state.sessions
        each: list[Any] = [latents] if self._one else list(latents)  # type: ignore[arg-type]  # one per session
        if len(each) != len(sessions):
            raise MigvisError(f"found {len(each)} sets of latents; expected one per session, {len(sessions)}")
        encoded = []
        with self._state.step() as context:
            labels = sessions.labels(self.config)
            if split is None:
                split = sessions.split(self.config, context.rng("split"))
            for i, (given, session) in enumerate(zip(each, sessions.sessions, strict=True)):
                model = given_model(given, session, groups)
                own_labels = sessions.labels_of(i, labels)
                encoded.append(
                    encode_session(model, session, split=split[sessions.rows[i]], labels=own_labels)
                )
        self._state.take_latents(encoded)
        return self._each(encoded)

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
        latents = self._state.need("latents", to="encode a session")[like]
        return latents_of(latents, session, self._state.sessions.sessions[like])

    # Prior and critic

    def train_prior(self) -> Prior:
        """Train the diffusion prior on the images of the training stimuli.

        Raises
        ------
        MigvisError
            If there are no latents yet, or no pixels.
        """
        from nwb_migvis.analysis.networks import prior_and_record, start_of

        with self._state.step() as context, context.clock.of("prior"):
            start = start_of(self.config)
            pictures = self._state.pictures(start)
            prior, record = prior_and_record(pictures, start, context)
        self._state.take_prior(prior, pictures, record)
        return prior

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
        from nwb_migvis.analysis.networks import PriorRecord
        from nwb_migvis.synthesis.prior.folder import open_prior
        from nwb_migvis.synthesis.prior.model import load_prior

        if isinstance(prior, bytes):
            prior = load_prior(prior)
        elif isinstance(prior, (str, Path)):
            prior = open_prior(str(prior))
        with self._state.step() as context:
            prior = prior.to(context.device)
            pictures = self._state.pictures(prior)
        embedding, groups = prior.denoiser.latents, pictures.groups
        if embedding is not None and tuple(embedding.sizes) != groups.sizes:
            raise MigvisError(
                f"the prior was trained with groups of {list(embedding.sizes)} latents; expected those of "
                f"the study, {list(groups.sizes)}; train it again, or use one that is not conditional"
            )
        if not prior.is_conditional and self.config.synthesis.is_conditioned:
            raise MigvisError(
                "the prior is not conditional, and synthesis.source_guidance or guidance_scale asks for it; "
                "set both to 0, or use a conditional prior"
            )
        self._state.set_config(prior=replace(self.config.prior, conditional=prior.is_conditional))
        self._state.take_prior(prior, pictures, PriorRecord({}).with_autoencoder(prior, pictures))
        return prior

    def train_critic(self) -> Critic:
        """Train the critic that scores images against latents.

        Raises
        ------
        MigvisError
            If there is no prior yet.
        """
        from nwb_migvis.analysis.networks import obtain_critic

        prior = self._state.need("prior", to="train the critic")
        self._state.choose_critic()
        with self._state.step() as context:
            critic = obtain_critic(self._state.pictures(), prior, context)
        self._state.take("critic", critic)
        return critic

    def use_critic(self, critic: Critic | bytes) -> Critic:
        """Use a critic that is trained already, or the bytes that a file holds of one.

        Raises
        ------
        MigvisError
            If there is no prior yet, or it was trained with latents of other groups.
        """
        from nwb_migvis.synthesis.critic.model import load_critic

        prior = self._state.need("prior", to="use a critic")
        if isinstance(critic, bytes):
            critic = load_critic(critic, prior=prior)
        groups = self._state.pictures().groups
        if tuple(critic.sizes) != groups.sizes:
            raise MigvisError(
                f"the critic was trained with groups of {list(critic.sizes)} latents; expected those of the "
                f"study, {list(groups.sizes)}"
            )
        self._state.take("critic", critic)
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
            `synthesize_more`. With any, these edits are made and added to the existing ones.

        Returns
        -------
        xarray.Dataset, or list of them for several sessions
            The edits, as `Results.synthesized`; of a request, the new ones alone.

        Raises
        ------
        MigvisError
            If there is no critic yet, or the request does not fit.
        """
        from nwb_migvis.synthesis.editing.request import EditRequest

        self._state.need("critic", to="edit")
        if request:
            return self._state.edit_by_name(EditRequest(**request), session)
        latents = self._state.need("latents", to="edit")
        edits = [SessionEdits() for _ in latents]
        with self._state.step() as context, context.clock.of("edits"):
            pictures, samples = self._state.pictures(), self._state.samples()
            for i in self._state.sessions.pictured:
                own = planned_edits(self._state.stimuli(i), latents[i], self._state.networks(), context)
                edits[i] = replace(own, trained_on=pictures.image[pictures.train], samples=samples)
        self._state.take("edits", edits)
        return self._each([own.synthesized for own in edits])

    def edit_towards(
        self, latents: np.ndarray, *, source: str | Sequence[str], session: int = 0
    ) -> xr.Dataset:
        """Edit images towards latents that no image has to have, one group at a time.

        Nothing of the study changes.

        Parameters
        ----------
        latents : array (goal, latent)
            In the units of `latents.mean`.
        source : str or sequence of str
            Stimulus ids of the images to edit.
        session : int
            Position of the session, where there are several.

        Returns
        -------
        xarray.Dataset
            As `Results.synthesized`, an edit for each goal, group and source, in that order; `target` is the
            goal's number as text. Then the reconstruction of each source without guidance (method "none").

        Raises
        ------
        MigvisError
            If there is no critic yet, the session has no pixels or not these images, or the latents do not
            fit.
        """
        sources = [source] if isinstance(source, str) else list(source)
        return self._state.edit_towards(latents, sources, session)

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
        return self._each([own.groups for own in self._state.measure()])

    def reseeded(self, *, fit: bool = False) -> list[list[np.ndarray]]:
        """Return, for each fit from another seed, the latents (stimulus, latent) of each session.

        As `measure` made them (`evidence.stability_seeds`); with `fit` they are made where there are none.
        """
        with self._state.step():
            return self._state.refits(fit=fit)

    def compute(self, name: str) -> Any:
        """Compute a further analysis, by the name that it is registered under.

        `results.analyses` has it too, until a step is done again that it needs or used.

        Returns
        -------
        xarray.Dataset

        Raises
        ------
        MigvisError
            If there is no analysis of that name, a step is missing, or no table can hold what it gives.
        """
        return self._state.analyse(name, self)

    def write(self, out: str | Path | None = None, **where: bool) -> Path | list[Path]:
        """Write the results into a copy of each session's file.

        Parameters
        ----------
        out : path, optional
            The file to write, with several sessions an existing folder; a sibling `NAME_migvis.nwb` where it
            is None.
        **where
            `in_place`, `overwrite` and `results_only`, as for `run`. Of a session that was read at an address
            only the results can be written.

        Raises
        ------
        MigvisError
            If nothing was measured yet, a session was not read from a file, or as for `run`.
        """
        from nwb_migvis.analysis.writing import write_study

        return self._each(write_study(self._state.sessions, self.assembled(), out, **where))
