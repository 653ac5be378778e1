"""Further analyses of a study: questions that works beside MIG-Vis asked of responses to images.

Each is an entry of `nwb_migvis.registry.ANALYSES`: it names what it `needs`, and `compute(study)` returns an
xarray.Dataset. Numbers are of held-out images. What the variables of a dataset are called says what belongs
together: `x`, the ends of its 95 % interval `x_low` and `x_high`, the mean `x_null` of its permutation null,
`x_p` and, over all cells, `x_q`. The attribute `headline` names the variables that tables, figures and the
report show.
"""
