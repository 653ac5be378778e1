"""From session datasets to results, in memory: joins the stages."""

from nwb_migvis.analysis.analysing import analyse, analyse_together
from nwb_migvis.analysis.sweep import sweep

__all__ = ["analyse", "analyse_together", "sweep"]
