"""A layout: the table `epochs`, whose tag says which image was shown."""

import numpy as np

from nwb_migvis.read.presentations import Presentations, StimulusImage


def find(contents, stimulus):
    """Yield the presentations that the file's epochs give."""
    epochs = contents.nwb.epochs
    if epochs is None or "tags" not in epochs.colnames:
        return
    tags = [tags[0] for tags in epochs["tags"][:]]
    names = sorted(set(tags))
    images = [(contents.named_images.get(name) or [StimulusImage(name)])[0] for name in names]
    yield Presentations(
        layout="epochs",
        place="epochs",
        start_time=np.asarray(epochs["start_time"][:], dtype=np.float64),
        image_index=np.array([names.index(tag) for tag in tags]),
        images=images,
    )
