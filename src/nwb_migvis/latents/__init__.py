"""Group-wise disentangled latents of a population of units (torch loads when a model is fitted)."""

from nwb_migvis.latents.design import (
    LabelTargets,
    label_targets,
    resolve_groups,
    split_stimuli,
    stimulus_labels,
)

__all__ = ["LabelTargets", "label_targets", "resolve_groups", "split_stimuli", "stimulus_labels"]
