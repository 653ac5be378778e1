"""Ground-truth sessions: procedural images, a population with planted groups, and the NWB file of both."""

from nwb_migvis.simulate.render import draw_factors, render_stimuli

__all__ = ["draw_factors", "render_stimuli"]
