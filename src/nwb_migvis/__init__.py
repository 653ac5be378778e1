"""What each part of a visual population encodes: group-wise latents and guided diffusion for NWB sessions.

Importing this package registers the NWB extension `ndx-migvis`; torch, diffusers, spikeinterface and
matplotlib load only when a function needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ndx_migvis as _ndx_migvis  # noqa: F401

if TYPE_CHECKING:
    __version__: str
    from nwb_migvis import plot
    from nwb_migvis.analysis import Study, compare_runs
    from nwb_migvis.batch import job_list, run_batch
    from nwb_migvis.config import Config
    from nwb_migvis.errors import MigvisError
    from nwb_migvis.memory import memory_limit
    from nwb_migvis.read import inspect_session, read_session, read_sessions, session_from_sorting
    from nwb_migvis.results import Results
    from nwb_migvis.runs import compare, export_stimuli, load_models, run, synthesize_more
    from nwb_migvis.simulate import simulate_session
    from nwb_migvis.sources import stream_cache
    from nwb_migvis.store import read_results

_HOME = {
    "Config": "nwb_migvis.config.run",
    "MigvisError": "nwb_migvis.errors",
    "Results": "nwb_migvis.results",
    "Study": "nwb_migvis.analysis",
    "compare": "nwb_migvis.runs",
    "compare_runs": "nwb_migvis.analysis",
    "export_stimuli": "nwb_migvis.runs",
    "inspect_session": "nwb_migvis.read",
    "job_list": "nwb_migvis.batch",
    "load_models": "nwb_migvis.runs",
    "memory_limit": "nwb_migvis.memory",
    "read_results": "nwb_migvis.store",
    "read_session": "nwb_migvis.read",
    "read_sessions": "nwb_migvis.read",
    "run": "nwb_migvis.runs",
    "run_batch": "nwb_migvis.batch",
    "session_from_sorting": "nwb_migvis.read",
    "simulate_session": "nwb_migvis.simulate",
    "stream_cache": "nwb_migvis.sources",
    "synthesize_more": "nwb_migvis.runs",
}

__all__ = [
    "Config",
    "MigvisError",
    "Results",
    "Study",
    "compare",
    "compare_runs",
    "export_stimuli",
    "inspect_session",
    "job_list",
    "load_models",
    "memory_limit",
    "plot",
    "read_results",
    "read_session",
    "read_sessions",
    "run",
    "run_batch",
    "session_from_sorting",
    "simulate_session",
    "stream_cache",
    "synthesize_more",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "plot":
        return import_module("nwb_migvis.plot")
    if name == "__version__":
        value = import_module("importlib.metadata").version("nwb-migvis")
    elif name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'nwb_migvis' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
