"""The composition root: joins the stages, from a session to its results."""

from nwb_migvis.pipeline.running import analyse, run, run_files
from nwb_migvis.pipeline.sorted import run_sorting

__all__ = ["analyse", "run", "run_files", "run_sorting"]
