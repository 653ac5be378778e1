"""The diffusion prior: its network, training, folders and cache, and the DDIM path both ways."""
