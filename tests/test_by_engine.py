"""Fits that do not need each other: the same bits by every engine; what goes wrong in a worker is said."""

import os
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from test_pipeline_evidence import SMALL, population

from nwb_migvis import MigvisError
from nwb_migvis.analysis import Study, sweep
from nwb_migvis.analysis.by_engine import fits_by_engine
from nwb_migvis.analysis.context import Context
from nwb_migvis.config import SplitConfig
from nwb_migvis.engines import Engine, Lost

SHORT = replace(
    SMALL,
    latents=replace(SMALL.latents, n_steps=20),
    split=SplitConfig(folds=3),
    evidence=replace(SMALL.evidence, n_permutations=19, n_bootstrap=19, stability_seeds=2),
)


def measured(**engine):
    study = Study(population(0, n_stimuli=120), SHORT, **engine)
    study.fit_latents()
    study.measure()
    return study.results


@pytest.fixture(scope="module")
def looped():
    return measured()


@pytest.mark.parametrize("name", ["joblib", "dask"])
def test_seeds_and_folds_give_the_same_evidence_by_every_engine(engines, looped, name):
    found = measured(**engines(name))
    assert looped.groups["stability"].notna().all()
    pd.testing.assert_frame_equal(found.groups, looped.groups, check_exact=True)
    assert found.decoding.identical(looped.decoding) and found.units.identical(looped.units)
    assert found.provenance["config"] == looped.provenance["config"]


@pytest.mark.parametrize("name", ["joblib", "dask"])
def test_a_sweep_gives_the_same_table_by_every_engine(engines, name):
    few = {"config": SHORT, "free_groups": (1, 2), "sizes": (2, 30)}
    expected = sweep(population(4), **few)
    assert expected[["free_groups", "group_size"]].to_numpy().tolist() == [[1, 2], [2, 2]]
    pd.testing.assert_frame_equal(sweep(population(4), **few, **engines(name)), expected, check_exact=True)
    with pytest.raises(MigvisError, match="training stimuli for 120 latents"):
        sweep(population(4), **{**few, "sizes": (30,)}, **engines(name))


def surroundings(item, *, data):
    """Say what a fit finds around it: data of its own, threads, determinism, and its process."""
    same = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), float(data.sum())
    return item, same, os.getpid()


@pytest.mark.parametrize("name", ["joblib", "dask"])
def test_workers_have_the_threads_and_the_data_of_this_process(engines, name):
    context = Context(replace(SHORT, n_threads=2), engine=Engine.of(**engines(name)))
    data = np.arange(300_000.0)
    done = fits_by_engine(partial(surroundings, data=data), range(5), context, what="")
    assert [item for item, _, _ in done] == list(range(5))
    assert {same for _, same, _ in done} == {(2, True, data.sum())}
    assert os.getpid() not in {process for _, _, process in done}


def fail(item):
    if item == 2:
        raise MigvisError("the counts of item 2 are none")
    return item


@pytest.mark.parametrize("name", ["loop", "joblib", "dask"])
def test_what_a_fit_refuses_is_said_as_here(engines, name):
    context = Context(SHORT, engine=Engine.of(**engines(name)))
    with pytest.raises(MigvisError, match=r"^the counts of item 2 are none$"):
        fits_by_engine(fail, range(4), context, what="")


def test_a_fit_whose_worker_is_killed_each_time_is_an_error(monkeypatch):
    def lose_the_third(task, items, **_):
        yield from ((i, Lost("its worker was killed") if item == 2 else item) for i, item in enumerate(items))

    monkeypatch.setattr("nwb_migvis.analysis.by_engine.work_through", lose_the_third)
    context = Context(SHORT, engine=Engine("joblib", {"n_jobs": 2}))
    with pytest.raises(MigvisError, match="fit 3 of 4 was lost: its worker was killed; expected all"):
        fits_by_engine(fail, range(4), context, what="")
    assert fits_by_engine(fail, (0, 1, 5), context, what="") == [0, 1, 5]


def test_engines_that_cannot_be_are_refused_before_any_fit():
    with pytest.raises(MigvisError, match="engine 'slurm' is unknown"):
        Study(population(0), SHORT, engine="slurm")
    with pytest.raises(MigvisError, match="has no 'jobs'; expected n_jobs"):
        sweep(population(0), config=SHORT, engine="joblib", engine_kwargs={"jobs": 2})
