"""What edits are read with: readers trained on real images, and the selectivity that they measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import xarray as xr

from nwb_migvis.alongside import alongside
from nwb_migvis.analysis.context import Context
from nwb_migvis.analysis.edits import SessionEdits
from nwb_migvis.analysis.judges import chosen_judges, open_judges
from nwb_migvis.analysis.latents import SessionLatents
from nwb_migvis.labels import select
from nwb_migvis.results import no_selectivity

if TYPE_CHECKING:
    from nwb_migvis.evidence.readers.protocol import Reader
    from nwb_migvis.evidence.selectivity import EditScoring
    from nwb_migvis.networks.describing import ImageDescriber


def fit_edit_readers(
    latents: SessionLatents,
    edits: SessionEdits,
    context: Context,
    *,
    judges: Mapping[str, ImageDescriber] | None = None,
    kinds: Sequence[str] | None = None,
) -> list[Reader]:
    """Train readers on real images; none where there are no pairs or no labels to read from them.

    Parameters
    ----------
    latents : SessionLatents
    edits : SessionEdits
    context : Context
    judges : mapping of str to ImageDescriber, optional
        Networks for photographs, from `open_judges`; opened where it is None.
    kinds : sequence of str, optional
        Which readers; those of the settings by default.
    """
    from nwb_migvis.evidence.readers.pretrained import fit_pretrained_reader
    from nwb_migvis.evidence.readers.protocol import Examples, fit_readers

    if not (latents.labels and edits.has_pairs):
        return []
    train, validation = (
        Examples(edits.image[part], select(latents.labels, part))
        for part in (latents.split == "train", latents.split == "validation")
    )
    judges = open_judges(context.config) if judges is None else judges
    return fit_readers(
        train,
        validation,
        seed=context.seeds["evidence"],
        n_steps=context.config.evidence.reader_steps,
        kinds=chosen_judges(context.config).readers if kinds is None else kinds,
        further={name: partial(fit_pretrained_reader, judge) for name, judge in judges.items()},
        checkpoints=context.config.checkpoints,
    )


@contextmanager
def readers_alongside(
    latents: SessionLatents,
    edits: SessionEdits,
    context: Context,
    *,
    judges: Mapping[str, ImageDescriber],
    in_thread: bool,
) -> Iterator[Callable[[], list[Reader]]]:
    """Train readers in a second thread while the block goes on; those of `judges` when it asks for all.

    The other evidence uses the networks of `judges`, too, so that these stay in its thread. Parameters are
    those of `fit_edit_readers`; `in_thread` as in `alongside`.
    """
    kinds = chosen_judges(context.config).readers
    own = [kind for kind in kinds if kind not in judges]
    given = [kind for kind in kinds if kind in judges]
    fit = partial(fit_edit_readers, latents, edits, context, judges=judges)

    def readers() -> list[Reader]:
        fitted = dict(zip(given, fit(kinds=given), strict=False))
        fitted |= zip(own, trained.result(), strict=False)  # where no label varies there are none
        return [fitted[kind] for kind in kinds if kind in fitted]

    with alongside(partial(fit, kinds=own), in_thread=in_thread) as trained:
        yield readers


def edit_scoring(
    stimulus: Sequence[str],
    latents: SessionLatents,
    edits: SessionEdits,
    readers: Sequence[Reader],
    *,
    context: Context,
) -> EditScoring:
    """Return what edits are read with and compared with."""
    from nwb_migvis.evidence.selectivity import EditScoring
    from nwb_migvis.evidence.transfer import Draws

    options = context.config.evidence
    return EditScoring(
        images=edits.image,
        stimulus=stimulus,
        labels=latents.labels,
        readers=readers,
        test=latents.split == "test",
        draws=Draws(context.seeds["evidence"], options.n_bootstrap, options.n_permutations),
        min_reader_score=options.min_reader_score,
    )


def edit_selectivity(latents: SessionLatents, edits: SessionEdits, scoring: EditScoring) -> xr.Dataset:
    """Read what the edits changed."""
    from nwb_migvis.evidence.selectivity import measure_selectivity

    if not (latents.labels and edits.has_pairs):
        return no_selectivity()
    return measure_selectivity(edits.synthesized, scoring, groups=latents.groups)
