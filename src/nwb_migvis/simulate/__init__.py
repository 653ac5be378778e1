"""Ground-truth sessions: images, a population with planted groups, and the NWB file of both."""

from nwb_migvis.simulate.ground_truth import read_ground_truth
from nwb_migvis.simulate.next_session import simulate_next_session
from nwb_migvis.simulate.pixel_population import PixelPopulation
from nwb_migvis.simulate.population import Population, draw_counts, draw_population
from nwb_migvis.simulate.render import draw_factors, render_stimuli
from nwb_migvis.simulate.scene import Scene
from nwb_migvis.simulate.session import population_of, simulate_session

__all__ = [
    "PixelPopulation",
    "Population",
    "Scene",
    "draw_counts",
    "draw_factors",
    "draw_population",
    "population_of",
    "read_ground_truth",
    "render_stimuli",
    "simulate_next_session",
    "simulate_session",
]
