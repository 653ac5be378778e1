"""How well the latents of sessions around one latent space agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nwb_migvis.analysis.latents import SessionLatents
from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.config import EvidenceConfig
from nwb_migvis.plain import Json


class Agreement:
    """Compares sessions by their responses and latents in halves of the repeats.

    Parameters
    ----------
    sessions : Sessions
    latents : sequence of SessionLatents
    config : EvidenceConfig
    seed : int
        Of the halves.
    """

    def __init__(
        self, sessions: Sessions, latents: Sequence[SessionLatents], config: EvidenceConfig, *, seed: int
    ):
        from nwb_migvis.evidence.halves import Halves

        self.sessions, self.latents, self.config = sessions, latents, config
        self.halves = [
            Halves.of(
                own.model,
                own.spike_count,
                stimulus_index=own.stimulus_index,
                split=own.split,
                seed=seed,
            )
            for own in latents
        ]

    def records(self, i: int) -> list[Json]:
        """Measure on test stimuli how well the latents of each other session stand for those of one.

        Parameters
        ----------
        i : int
            Position of the session.

        Returns
        -------
        list of dict
            One record per other session that shares stimuli with it: `session` (its name), `n_shared` and
            `n_test`. Where there are enough test stimuli, also `variance_own`, `variance_other` (see
            `cross_variance`) and `groups_matched` (partners in `match_groups`).
        """
        records = [self._record(i, j) for j in range(len(self.sessions)) if j != i]
        return [record for record in records if record["n_shared"]]

    def _record(self, i: int, j: int) -> Json:
        from nwb_migvis.evidence.between import cross_variance
        from nwb_migvis.evidence.stability import match_groups

        mine, theirs = self.latents[i], self.latents[j]
        _, in_i, in_j = np.intersect1d(self.sessions.rows[i], self.sessions.rows[j], return_indices=True)
        halves, encoded = self.halves[j], np.stack([self.halves[j].latents_a, self.halves[j].latents_b])
        other = np.full((2, *self.halves[i].latents_a.shape), np.nan)
        other[:, in_i] = np.where(halves.repeated[:, None], encoded, np.nan)[:, in_j]
        variance = cross_variance(
            self.halves[i], (other[0], other[1]), min_reliability=self.config.min_reliability
        )
        record: Json = {
            "session": self.sessions.names[j],
            "n_shared": int(in_i.size),
            "n_test": variance.n_stimuli,
        }
        if np.isfinite(variance.own):
            test, groups = mine.split[in_i] == "test", mine.groups
            x, y = mine.mean[in_i[test]], theirs.mean[in_j[test]]
            record |= {
                "variance_own": variance.own,
                "variance_other": variance.other,
                "groups_matched": match_groups(x, y, groups_a=groups, groups_b=groups).partner,
            }
        return record


def agreement_note(record: Mapping[str, Any]) -> str:
    """Say in one line how well two sessions agree."""
    start = f"latents are shared with {record['session']} ({record['n_shared']} images in common)"
    if "variance_own" not in record:
        return f"{start}: only {record['n_test']} held-out ones have repeats, too few to measure how well"
    n_matched = sum(a == b for a, b in record["groups_matched"].items())
    return (
        f"{start}: on {record['n_test']} held-out ones its latents predict {record['variance_other']:.2f} of "
        f"the repeatable variance here, the session's own {record['variance_own']:.2f}; "
        f"{n_matched} of {len(record['groups_matched'])} groups match their namesakes"
    )
