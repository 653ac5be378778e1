"""Statistics that say whether to believe a latent group: pure functions on arrays.

`reliability` and `variance` score latents against repeated responses, `information` a critic's scores,
`readers` read stimulus labels from images, and `selectivity` measures with them what edits change.
"""
