"""Ground-truth sessions: procedural images, a population with planted groups, and the NWB file of both."""

from nwb_migvis.simulate.ground_truth import read_ground_truth
from nwb_migvis.simulate.population import Population, draw_counts, draw_population
from nwb_migvis.simulate.render import draw_factors, render_stimuli
from nwb_migvis.simulate.session import simulate_session

__all__ = [
    "Population",
    "draw_counts",
    "draw_factors",
    "draw_population",
    "read_ground_truth",
    "render_stimuli",
    "simulate_session",
]
