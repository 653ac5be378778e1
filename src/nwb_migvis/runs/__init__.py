"""From files to files: the composition root."""

from nwb_migvis.runs.from_sorting import run_sorting
from nwb_migvis.runs.more_edits import synthesize_more, write_further
from nwb_migvis.runs.running import run, run_files
from nwb_migvis.runs.sweeping import sweep_file

__all__ = ["run", "run_files", "run_sorting", "sweep_file", "synthesize_more", "write_further"]
