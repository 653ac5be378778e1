"""The composition root: joins the stages, from a session to its results."""

from nwb_migvis.pipeline.running import analyse, analyse_together, run, run_files

__all__ = ["analyse", "analyse_together", "run", "run_files"]
