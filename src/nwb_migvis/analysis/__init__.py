"""From session datasets to results, in memory: joins the stages."""

from nwb_migvis.analysis.comparing import Comparison, compare_runs
from nwb_migvis.analysis.study import Study
from nwb_migvis.analysis.sweep import sweep

__all__ = ["Comparison", "Study", "compare_runs", "sweep"]
