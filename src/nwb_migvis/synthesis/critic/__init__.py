"""The critic: how well an image goes with a value of each latent group."""
