"""From files to files: the composition root."""

from nwb_migvis.runs.analysing import analyse
from nwb_migvis.runs.archive import archive_findings, lay_out
from nwb_migvis.runs.fetching import fetched_file
from nwb_migvis.runs.from_sorting import SortedSource, run_sorting
from nwb_migvis.runs.measuring import compare
from nwb_migvis.runs.models import Models, load_models
from nwb_migvis.runs.more_edits import Changes, synthesize_more, write_further
from nwb_migvis.runs.reproducing import Reproduction, reproduce
from nwb_migvis.runs.running import run, run_files
from nwb_migvis.runs.stimuli import export_stimuli
from nwb_migvis.runs.sweeping import sweep_file
from nwb_migvis.runs.training_priors import Training, train_prior_on
from nwb_migvis.runs.validating import finding_lines, validate_written

__all__ = [
    "Changes",
    "Models",
    "Reproduction",
    "SortedSource",
    "Training",
    "analyse",
    "archive_findings",
    "compare",
    "export_stimuli",
    "fetched_file",
    "finding_lines",
    "lay_out",
    "load_models",
    "reproduce",
    "run",
    "run_files",
    "run_sorting",
    "sweep_file",
    "synthesize_more",
    "train_prior_on",
    "validate_written",
    "write_further",
]
