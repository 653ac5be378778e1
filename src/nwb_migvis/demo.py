"""The demo: a session whose answers are known, through every stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nwb_migvis.config import Config, GroupConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import MODELS, REPORT, SIMULATION, require
from nwb_migvis.first_view import FirstView
from nwb_migvis.report import draw_edits, group_table, report_path, write_report
from nwb_migvis.results import Results
from nwb_migvis.runs import run_files
from nwb_migvis.simulate import simulate_session
from nwb_migvis.store import Destination, validate_file

POSE = ("rotation_x", "rotation_y", "rotation_z", "position_x", "position_y", "size")


def demo_config(seed: int = 0, *, train_prior: bool = False) -> Config:
    """Return the preset `quick` with the groups "pose", "category" and two free ones.

    The prior is the shipped one, which was trained on other renders of the same kind. It learns the session's
    latents from the session's images. Otherwise it is trained from scratch on these, as for any other
    session.
    """
    quick = Config.from_preset("quick")
    groups = (
        GroupConfig(name="pose", labels=POSE),
        GroupConfig(name="category", labels=("category",)),
        GroupConfig(name="free_1"),
        GroupConfig(name="free_2"),
    )
    config = replace(quick, seed=seed, latents=replace(quick.latents, groups=groups))
    if train_prior:
        return config
    return replace(
        config,
        prior=replace(quick.prior, start="renders", n_steps=600, ema_decay=0.99),
        critic=replace(quick.critic, features="trained"),
        synthesis=replace(
            quick.synthesis,
            n_steps=20,
            source_guidance=2.5,
            guidance_scale=3.0,
            guidance_rescale=0.7,
            n_traversal=4,
        ),
        evidence=replace(quick.evidence, information_draws=0),
    )


def run_demo(
    folder: Path,
    *,
    seed: int = 0,
    train_prior: bool = False,
    report: bool = True,
    say: Callable[[str], None] = print,
) -> Path:
    """Simulate a session, run everything on it with `quick`, validate the file and draw its edits.

    Parameters
    ----------
    folder : Path
        Where the files go; made where it is absent.
    seed : int
        Of the simulation and of the run.
    train_prior : bool
        Train the prior from scratch instead of using the shipped one.
    report : bool
        Write a page about the results, and say last where it is. A first version shows the plan, and grows.
    say : callable
        Takes each line that is meant for people.

    Returns
    -------
    Path
        The file with the results, `folder/session_migvis.nwb`.

    Raises
    ------
    MigvisError
        If the folder cannot be made, holds the demo's files already, or the written file is not valid.
    """
    require((*MODELS, *SIMULATION, *REPORT), what="the demo")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MigvisError(f"{folder}: {error.strerror}; give another folder with --out") from None
    session = folder / "session.nwb"
    out = folder / "session_migvis.nwb"
    for path in (session, out):
        if path.exists():
            raise MigvisError(f"{path} exists already; remove it, or give another folder with --out")
    config = demo_config(seed, train_prior=train_prior)
    view = FirstView(folder, config, page=report_path(out) if report else None)
    say(f"first look  {view.picture}: the first images and the plan")
    if report:
        say(f"page        {report_path(out)}: open it in a browser; it grows until the demo ends")
    with view.stopping():
        results = _simulate_and_run(session, out, config, view=view, say=say)
    say("4/4 drawing ...")
    figure = draw_edits(out)
    say("")
    say(group_table(results))
    seconds = results.provenance["times"]["seconds"]
    say("seconds: " + ", ".join(f"{stage} {value:.0f}" for stage, value in seconds.items()))
    say(f"session     {session}")
    say(f"results     {out} (valid)")
    say(f"edits       {figure}")
    if report:
        say(f"report      {write_report(out)}")
    return out


def _simulate_and_run(
    session: Path, out: Path, config: Config, *, view: FirstView, say: Callable[[str], None]
) -> Results:
    say("1/4 simulating a session of 5,760 images and 160 units ...")
    simulate_session(session, seed=config.seed)
    view.after("simulation")
    minutes = "10" if config.prior.start else "20"
    say(f"2/4 learning latent groups, training, editing (some {minutes} minutes on two cores) ...")
    ((_, results),) = run_files([session], Destination(out=out), config=config, after=view.after)
    say("3/4 validating the file ...")
    findings = [f for f in validate_file(out, schema=False) if f.importance != "best_practice_suggestion"]
    if findings:
        raise MigvisError(f"{out} is not valid: {findings[0].location}: {findings[0].message}")
    return results
