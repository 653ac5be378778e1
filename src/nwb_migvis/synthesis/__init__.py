"""Images that show what a latent group encodes (torch and diffusers load when a network is built)."""
