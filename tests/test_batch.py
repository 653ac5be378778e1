"""Many sessions: engines give the same, killed workers lose nothing, faults are rows, done work is kept."""

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layouts import add_trials, new_file, write

from nwb_migvis import MigvisError, read_results
from nwb_migvis.batch import job_list, run_batch
from nwb_migvis.batch.jobs import without_outputs
from nwb_migvis.engines import Engine, Lost, engine_settings, work_through
from nwb_migvis.store.digests import part_digests
from nwb_migvis.testing import tiny_config

GROUPS = [{"name": "kind", "labels": ["kind"], "size": 2}, {"name": "free", "size": 2}]
CONFIG = tiny_config(
    latents={"n_steps": 5, "n_hidden": 8, "groups": GROUPS}, evidence={"n_permutations": 3, "n_bootstrap": 3}
)


def write_small_session(path: Path, seed: int) -> Path:
    """Write a session of 50 images without pixels, of two kinds, and 6 units that tell the kinds apart."""
    rng = np.random.default_rng(seed)
    is_a = np.arange(50) % 2 == 0
    shown = np.concatenate([rng.permutation(50) for _ in range(3)])
    start = 1 + 0.3 * np.arange(shown.size)
    trains = []
    for unit in range(6):
        n = rng.poisson(np.where(is_a == (unit % 2 == 0), 6, 2)[shown])
        trains.append(np.sort(np.repeat(start, n) + rng.uniform(0.07, 0.17, n.sum())))
    nwb = new_file(trains)
    add_trials(nwb, start, image=[f"im{k}.png" for k in shown], kind=np.where(is_a, "a", "b")[shown].tolist())
    return write(nwb, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Six sessions, of which the fourth is damaged."""
    folder = tmp_path_factory.mktemp("sessions")
    for i in range(6):
        path = write_small_session(folder / f"s{i}.nwb", i)
        if i == 3:
            path.write_bytes(path.read_bytes()[:-4000])
    return folder


def jobs_in(folder: Path, out: Path, **options):
    given = {"config": CONFIG, "reading": {"stimulus": "image"}, "results_only": True}
    return job_list(str(folder / "s?.nwb"), out, **{**given, **options})


@pytest.fixture(scope="module")
def looped(folder, tmp_path_factory):
    """The folder of a loop over all six, and what came of it."""
    out = tmp_path_factory.mktemp("looped")
    return out, run_batch(jobs_in(folder, out), n_threads=1)


def square(item, n_threads):
    return item**2, n_threads


def square_slowly(item, n_threads):
    time.sleep(0.5 * item)
    return item**2


def kill_once(item, n_threads, *, marker):
    """End this worker by SIGKILL the first time that the third item comes."""
    if item == 3 and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item**2


def kill_always(item, n_threads):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item**2


@pytest.mark.parametrize("name", ["loop", "joblib", "dask"])
def test_engines_do_every_item_once_with_the_threads_that_are_asked_for(engines, name):
    done = list(work_through(square, range(6), n_threads=3, **engines(name)))
    assert sorted(done) == [(i, (i**2, 3)) for i in range(6)]


def test_workers_share_the_cores(monkeypatch):
    from joblib import cpu_count

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    done = dict(work_through(square, range(4), engine="joblib", engine_kwargs={"n_jobs": 2}))
    assert {threads for _, threads in done.values()} == {max(cpu_count() // 2, 1)}


def test_workers_have_no_more_threads_than_the_user_allows(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 64)
    for allowed, expected in (("3", 3), ("40", 32), ("many", 32)):
        monkeypatch.setenv("OMP_NUM_THREADS", allowed)
        done = dict(work_through(square, range(2), engine="joblib", engine_kwargs={"n_jobs": 2}))
        assert {threads for _, threads in done.values()} == {expected}


@pytest.mark.parametrize("name", ["joblib", "dask"])
def test_what_a_killed_worker_had_is_done_again(engines, tmp_path, name):
    task = partial(kill_once, marker=tmp_path / "killed")
    assert dict(work_through(task, range(6), **engines(name))) == {i: i**2 for i in range(6)}
    assert (tmp_path / "killed").exists()


GROW = """
KEPT = []

def grow(megabytes, n_threads):
    KEPT.append(bytes([1]) * megabytes * 2**20)
    return megabytes
"""
WORK = """
import time, warnings
from grow import grow
from nwb_migvis.engines import work_through

warnings.simplefilter("error")
for sizes in ([0, 0], [400] * 6):
    done = dict(work_through(grow, sizes, engine="joblib", engine_kwargs={"n_jobs": 2}, n_threads=1))
    assert done == dict(enumerate(sizes)), done
    time.sleep(1.1)  # joblib looks at a worker's memory no more than once a second
"""


def test_a_worker_whose_memory_grew_is_replaced_where_warnings_are_errors(tmp_path):
    (tmp_path / "grow.py").write_text(GROW)
    (tmp_path / "work.py").write_text(WORK)
    subprocess.run([sys.executable, tmp_path / "work.py"], check=True, timeout=60)


def test_an_item_that_always_kills_its_worker_is_lost_alone():
    done = dict(work_through(kill_always, range(6), engine="joblib", engine_kwargs={"n_jobs": 2}))
    assert isinstance(done.pop(3), Lost)
    assert done == {i: i**2 for i in (0, 1, 2, 4, 5)}


@pytest.mark.parametrize(
    ("engine", "given", "said"),
    [
        ("slurm", {}, "engine 'slurm' is unknown; expected one of loop, joblib, dask"),
        ("loop", {"n_jobs": 2}, "the engine 'loop' has no 'n_jobs'"),
        ("joblib", {"jobs": 2}, "has no 'jobs'; expected n_jobs"),
        ("joblib", {"n_jobs": 0}, "n_jobs is 0; expected 1 or more"),
        ("joblib", {"n_jobs": "2"}, "n_jobs is '2'; expected 1 or more"),
        ("dask", {}, "needs the address of a scheduler"),
        ("dask", {"address": 8786}, "address is 8786; expected a host and a port"),
        ("dask", {"client": "tcp://head:8786"}, "expected a dask.distributed.Client"),
    ],
)
def test_engines_that_cannot_be_are_refused(engine, given, said):
    with pytest.raises(MigvisError, match=said):
        engine_settings(engine, given)


def test_a_scheduler_that_does_not_answer_is_refused_before_any_work(monkeypatch, tmp_path):
    pytest.importorskip("distributed")
    monkeypatch.setattr("nwb_migvis.engines.SECONDS_TO_CONNECT", 0.2)
    nowhere = {"address": "tcp://127.0.0.1:1"}
    with pytest.raises(MigvisError, match=r"no scheduler of dask answers at tcp://127\.0\.0\.1:1"):
        Engine.of("dask", nowhere)
    with pytest.raises(MigvisError, match="no scheduler of dask answers"):
        run_batch(job_list(["absent.nwb"], tmp_path / "out"), engine="dask", engine_kwargs=nowhere)
    assert not (tmp_path / "out").exists()


def test_what_listens_and_does_not_greet_is_no_scheduler(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("nwb_migvis.engines.SECONDS_TO_CONNECT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(MigvisError, match=r"silent for 0\.2 s; is it the dashboard\?"):
            Engine.of("dask", {"address": address})


def test_a_scheduler_that_is_lost_loses_what_is_left(caplog):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        work = work_through(
            square_slowly, range(3), engine="dask", engine_kwargs={"address": cluster.scheduler_address}
        )
        assert next(work) == (0, 0)
        cluster.close()
        left = dict(work)
    assert set(left) == {1, 2}
    assert all("connection to the scheduler of dask was lost" in lost.why for lost in left.values())
    assert not [record for record in caplog.records if record.name == "distributed.client"]


def test_a_batch_says_that_it_waits_for_workers(monkeypatch, tmp_path):
    monkeypatch.setattr("nwb_migvis.batch.many.check_engine", lambda *_: 0)
    said = []
    run_batch(job_list([tmp_path / "absent.nwb"], tmp_path / "out"), report=False, say=said.append)
    assert said[0] == "the scheduler of dask has no workers yet; waiting for them"


def test_a_fault_is_a_row_and_the_others_go_on(looped):
    out, batch = looped
    assert batch.sessions["status"].tolist() == ["done"] * 3 + ["failed"] + ["done"] * 2
    (error,) = batch.failed["error"]
    assert "s3.nwb" in error and "\n" not in error
    assert batch.sessions["n_units"].dtype == "Int64"  # 6, where floats would be written as 6.0
    written = pd.read_csv(out / "sessions.csv")
    assert written["error"].isna().tolist() == [True] * 3 + [False] + [True] * 2
    assert batch.groups.groupby("output").size().tolist() == [2] * 5
    assert "5 sessions" in batch.report.read_text(encoding="utf-8")


def test_a_second_call_does_only_what_is_missing(folder, looped):
    out, _ = looped
    jobs = jobs_in(folder, out)
    (out / "s1_migvis.nwb").unlink()
    record = out / "records" / "s4_migvis.json"  # as a worker leaves it that is killed after it has written
    record.write_text(record.read_text().replace('"done"', '"begun"'))
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*_migvis.nwb")}
    batch = run_batch(jobs, n_threads=1, report=False)
    assert batch.sessions["status"].tolist() == ["kept", "done", "kept", "failed", "done", "kept"]
    now = {path.name: path.stat().st_mtime_ns for path in out.glob("*_migvis.nwb")}
    assert {name for name in before if before[name] == now[name]} == {f"s{i}_migvis.nwb" for i in (0, 2, 5)}
    assert len(batch.groups) == 10


def test_outputs_of_other_settings_or_of_no_batch_are_refused(folder, looped, tmp_path):
    out, _ = looped
    other = tiny_config(latents={"n_steps": 6, "n_hidden": 8, "groups": GROUPS}, seed=1)
    jobs = jobs_in(folder, out, config=other)[:1]
    (error,) = run_batch(jobs, report=False).sessions["error"]
    assert "latents.n_steps" in error and "--overwrite" in error and "seed" in error
    jobs = jobs_in(folder, tmp_path)[:1]
    jobs[0].output.write_bytes(b"a file of the user")
    (error,) = run_batch(jobs, report=False).sessions["error"]
    assert "no batch made it" in error
    assert jobs[0].output.read_bytes() == b"a file of the user"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joblib", "dask"])
def test_every_engine_gives_the_arrays_of_the_loop(engines, folder, looped, tmp_path, name):
    batch = run_batch(jobs_in(folder, tmp_path), n_threads=1, report=False, **engines(name))
    assert batch.sessions["status"].tolist() == ["done"] * 3 + ["failed"] + ["done"] * 2
    for i in (0, 1, 2, 4, 5):
        ours, theirs = (
            part_digests(read_results(path / f"s{i}_migvis.nwb")) for path in (tmp_path, looped[0])
        )
        assert {**ours, "provenance": ""} == {**theirs, "provenance": ""}


def test_rows_of_a_table_have_options_of_their_own(folder, tmp_path):
    table = tmp_path / "jobs.csv"
    table.write_text(
        "session,window,seed,latents.n_steps,units,output\n"
        f"{folder}/s0.nwb,0.05 0.15,,,,\n"
        f"{folder}/s0.nwb,,3,7,quality == 'good',other.nwb\n"
    )
    first, second = job_list(table, tmp_path / "out", config=CONFIG, reading={"stimulus": "image"})
    assert first.reading == {"stimulus": "image", "window_s": (0.05, 0.15)}
    assert first.config == CONFIG and first.output == tmp_path / "out" / "s0_migvis.nwb"
    assert (second.config.seed, second.config.latents.n_steps) == (3, 7)
    assert second.reading["units"] == "quality == 'good'" and second.output.name == "other.nwb"
    seeds = job_list([folder / "s0.nwb"], tmp_path, seeds=(0, 1))
    assert [job.output.name for job in seeds] == ["s0_migvis_seed-0.nwb", "s0_migvis_seed-1.nwb"]
    assert [job.config.seed for job in seeds] == [0, 1]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("session,windows\na.nwb,1 2\n", "column 'windows' is unknown"),
        ("session,seed\na.nwb,one\n", "row 1: found 'one' in the column 'seed'"),
        ("session,latents.n_step\na.nwb,3\n", "n_step is not a setting"),
        ("session,output\na.nwb,../b.nwb\n", "name of a file, without a folder"),
        ("session,where\na.nwb,x\na.nwb,y\n", "would both be written to"),
        ("path\na.nwb\n", "no column 'session'"),
        ("session\n", "found 0 sessions"),
        ("session,units\na.nwb,x in [1,2]\n", "line 2 has 3 cells, and the header 2"),
        ("session,seed\na.nwb,3\n\nb.nwb,x\n", "row 3: found 'x' in the column 'seed'; expected a whole"),
        ("session,window,window_s\na.nwb,1 2,1 2\n", "'window' and 'window_s', which are one"),
        ("session,preset\na.nwb,fast\n", "row 1: preset 'fast' is unknown"),
        ("session,name\na.nwb,a/b\n", "row 1: the run name 'a/b' cannot name"),
        ("session\na\0.nwb\n", "row 1: found the session"),
        ("session\nm\udcfcde.nwb\n", "is not text in UTF-8"),
    ],
)
def test_tables_that_do_not_parse_are_refused(tmp_path, cells, said):
    table = tmp_path / "jobs.csv"
    table.write_bytes(cells.encode(errors="surrogateescape"))
    with pytest.raises(MigvisError, match=said):
        job_list(table, tmp_path / "out")


def test_tables_that_spreadsheets_and_pandas_write_are_read(tmp_path):
    table = tmp_path / "jobs.csv"
    table.write_bytes('\ufeffsession , seed, window\r\n a b.nwb,3.0,"(0.1, 0.2)"\r\n\r\n,,\r\n'.encode())
    (job,) = job_list(table, tmp_path)
    assert job.session == str(tmp_path / "a b.nwb")
    assert (job.config.seed, job.reading) == (3, {"window_s": (0.1, 0.2)})
    frame = pd.DataFrame({"session": ["a.nwb", "b.nwb"], "seed": [3, None], "window": ["0.1 0.2", None]})
    first, second = job_list(frame, tmp_path)
    assert (first.config.seed, first.reading) == (3, {"window_s": (0.1, 0.2)})
    assert (second.config.seed, second.reading) == (0, {})


@pytest.mark.parametrize("sessions", [None, {"session": "a.nwb"}, [["a.nwb"]], 3])
def test_what_is_no_list_of_sessions_is_refused(tmp_path, sessions):
    with pytest.raises(MigvisError, match=r"expected a (pattern|path or an address)"):
        job_list(sessions, tmp_path)


def test_patterns_leave_out_the_outputs(folder, tmp_path):
    for name in ("a.nwb", "a_migvis.nwb", "b.nwb"):
        (tmp_path / name).touch()
    assert [Path(job.session).name for job in job_list(str(tmp_path / "*.nwb"), tmp_path)] == [
        "a.nwb",
        "b.nwb",
    ]
    seeds = job_list(str(tmp_path / "[ab].nwb"), tmp_path, seeds=(0, 1))
    (tmp_path / "records").mkdir()
    for path in (job.output for job in seeds):
        path.touch()
        (tmp_path / "records" / f"{path.stem}.json").touch()
    assert job_list(str(tmp_path / "*.nwb"), tmp_path, seeds=(0, 1)) == seeds
    unquoted = sorted(str(path) for path in tmp_path.glob("*.nwb"))
    assert without_outputs([*unquoted, "https://host/c.nwb"], tmp_path) == [
        *(str(tmp_path / name) for name in ("a.nwb", "b.nwb")),
        "https://host/c.nwb",
    ]
    (tmp_path / "c[1].nwb").touch()
    assert [job.session for job in job_list(str(tmp_path / "c[1].nwb"), tmp_path)] == [
        str(tmp_path / "c[1].nwb")
    ]
    elsewhere = job_list(str(tmp_path / "?*.nwb"), tmp_path / "out")
    assert "a_migvis.nwb" not in [Path(job.session).name for job in elsewhere]  # a run wrote it beside a.nwb
    with pytest.raises(MigvisError, match="no file matches"):
        job_list(str(tmp_path / "d*.nwb"), tmp_path)


def test_the_command_says_what_failed(call, folder, tmp_path):
    (tmp_path / "quick.toml").write_text(CONFIG.to_toml())
    code, said, errors = call(
        *("batch", folder / "s[03].nwb", "--out", tmp_path / "out", "--config", tmp_path / "quick.toml"),
        *("--stimulus", "image", "--results-only", "--engine", "loop"),
    )
    assert code == 1
    assert "1 of 2 sessions failed" in errors
    assert "1/2 s0.nwb: s0_migvis.nwb" in said and "2/2 s3.nwb: failed: " in said
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_session_that_is_absent_or_a_folder_is_said_as_other_faults_are(tmp_path):
    (tmp_path / "folder.nwb").mkdir()
    jobs = job_list([tmp_path / "folder.nwb", tmp_path / "absent.nwb"], tmp_path / "out")
    errors = run_batch(jobs, report=False).sessions["error"].tolist()
    assert [error.split(": ")[1].split(";")[0] for error in errors] == [
        "Is a directory",
        "No such file or directory",
    ]
    assert all("expected a file that can be read" in error for error in errors)
    assert run_batch(jobs).no_report == "no session has results"


def test_an_interrupted_batch_says_that_what_was_done_is_kept(call, monkeypatch, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nwb_migvis.batch.many.work_through", interrupt)
    code, _, errors = call("batch", tmp_path / "a.nwb", tmp_path / "b.nwb", "--out", tmp_path / "out")
    assert code == 130 and "what was done is kept; the same command does only what is missing" in errors
