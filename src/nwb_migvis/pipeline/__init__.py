"""The composition root: joins the stages, from a session to its results."""

from nwb_migvis.pipeline.analysing import analyse, analyse_together
from nwb_migvis.pipeline.further import synthesize_more, write_further
from nwb_migvis.pipeline.request import Request
from nwb_migvis.pipeline.running import run, run_files
from nwb_migvis.pipeline.sorted import run_sorting
from nwb_migvis.pipeline.sweep import sweep, sweep_file

__all__ = [
    "Request",
    "analyse",
    "analyse_together",
    "run",
    "run_files",
    "run_sorting",
    "sweep",
    "sweep_file",
    "synthesize_more",
    "write_further",
]
