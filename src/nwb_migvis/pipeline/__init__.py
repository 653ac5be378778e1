"""The composition root: joins the stages, from a session to its results."""

from nwb_migvis.pipeline.running import analyse, run, run_files
from nwb_migvis.pipeline.sweep import sweep, sweep_file

__all__ = ["analyse", "run", "run_files", "sweep", "sweep_file"]
