"""Is a written file valid: by its schema and content, and by whether its models can be built again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from nwb_migvis.errors import MigvisError
from nwb_migvis.runs.models import checked_weights
from nwb_migvis.store import Finding, building, list_runs, read_results, validate_file


def validate_written(path: str | Path) -> list[Finding]:
    """Check a file as `validate_file` does; where that finds no error, build its models too.

    Models are built where torch and diffusers are installed. Networks that lie in other files are not opened.

    Raises
    ------
    MigvisError
        If the file cannot be opened.
    """
    findings = validate_file(path)
    if any(finding.importance == "error" for finding in findings):
        return findings
    return [*findings, *model_findings(path)]


def finding_lines(findings: Sequence[Finding], *, most_places: int = 3) -> list[str]:
    """Return findings for people: errors one by one, others of the same kind together, with some places.

    Parameters
    ----------
    findings : sequence of Finding
    most_places : int
        Objects that are named for each kind; the others are counted.
    """
    lines = [f"{f.importance}: {f.location}: {f.message}" for f in findings if f.importance == "error"]
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        if finding.importance != "error":
            words = re.sub(r"'[^']*'|\d[\d.,]*", "...", finding.message)
            kinds.setdefault((finding.importance, words), []).append(finding)
    for (importance, _), alike in kinds.items():
        places = list(dict.fromkeys(finding.location for finding in alike))
        named = ", ".join(places[:most_places])
        more = f" and {len(places) - most_places} more" if len(places) > most_places else ""
        count = f" ({len(alike)} times)" if len(alike) > 1 else ""
        lines.append(f"{importance}{count}: {named}{more}: {alike[0].message}")
    return lines


def model_findings(path: str | Path) -> Iterator[Finding]:
    """Yield why models of the runs in a file cannot be built again."""
    if find_spec("torch") is None or find_spec("diffusers") is None:
        return
    for name in list_runs(path):
        where = f"/analysis/{name}/model"
        try:
            _build(Path(path), name, where)
        except MigvisError as error:
            yield Finding("error", str(error), where)


def _build(path: Path, name: str, where: str) -> None:
    weights = checked_weights(path, read_results(path, name))
    if not weights:
        return
    from nwb_migvis.latents.protocol import load_latent_model
    from nwb_migvis.networks.weights import unpack
    from nwb_migvis.synthesis.critic.model import KIND, load_critic
    from nwb_migvis.synthesis.prior.model import load_prior

    with building(f"{path}: {where}"):
        prior = load_prior(weights["prior"]) if "prior" in weights else None
        if "vae" in weights:
            load_latent_model(weights["vae"])
        if "critic" in weights:
            features = unpack(KIND, weights["critic"])[0].get("features")
            if features is None or (features == "prior" and prior is not None):
                load_critic(weights["critic"], prior=prior)
