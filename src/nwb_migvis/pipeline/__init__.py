"""The composition root: joins the stages, from a session to its results."""

from nwb_migvis.pipeline.running import analyse, run, run_files

__all__ = ["analyse", "run", "run_files"]
