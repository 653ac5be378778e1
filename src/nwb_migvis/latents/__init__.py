"""Group-wise disentangled latents of a population of units (torch loads when a model is fitted)."""

from nwb_migvis.latents.design import (
    LabelTargets,
    check_circular,
    free_group_name,
    label_targets,
    resolve_groups,
    split_stimuli,
    stimulus_labels,
)
from nwb_migvis.latents.overlap import linked_pairs, split_shared_stimuli
from nwb_migvis.latents.task import LatentTask, Recording

__all__ = [
    "LabelTargets",
    "LatentTask",
    "Recording",
    "check_circular",
    "free_group_name",
    "label_targets",
    "linked_pairs",
    "resolve_groups",
    "split_shared_stimuli",
    "split_stimuli",
    "stimulus_labels",
]
