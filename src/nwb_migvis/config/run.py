"""Every setting of a run: nested frozen records that round-trip through TOML and JSON."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nwb_migvis.config.checking import check, merge
from nwb_migvis.config.companions import CompanionsConfig
from nwb_migvis.config.critic import CriticConfig
from nwb_migvis.config.editing import SynthesisConfig
from nwb_migvis.config.evidence import EvidenceConfig
from nwb_migvis.config.latents import LatentsConfig, SplitConfig
from nwb_migvis.config.printing import config_html, config_lines
from nwb_migvis.config.prior import PriorConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.files import as_path
from nwb_migvis.plain import Json, nearest, plain

EARLIER: Json = {
    "prior": {"optimiser": "adamw"},
    "synthesis": {"inversion": "searched", "inversion_tolerance": 3e-4},
}
"""What runs did before there was a setting for it."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every setting of a run.

    Parameters
    ----------
    preset : {"quick", "paper"}
        Where the values came from; `Config.from_preset` makes one.
    seed : int
        Seeds every generator of the run.
    device : str
        A torch device.
    n_threads : int
        Threads of torch on the CPU; 0 keeps torch's own choice. A run records the number actually used.
    cache : str
        Folder that keeps trained priors for later runs. It also keeps the state of every training while it
        lasts, so that a killed run resumes from it. Empty: nothing is kept. It changes no result, and is not
        recorded with the run.
    analyses : tuple of str
        Further analyses that a run makes after all else, by name, such as "retrieval". They change nothing
        else.
    """

    preset: str = "quick"
    seed: int = 0
    device: str = "cpu"
    n_threads: int = 0
    cache: str = ""
    analyses: tuple[str, ...] = ()
    split: SplitConfig = field(default_factory=SplitConfig)
    latents: LatentsConfig = field(default_factory=LatentsConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    evidence: EvidenceConfig = field(default_factory=EvidenceConfig)
    companions: CompanionsConfig = field(default_factory=CompanionsConfig)

    def __post_init__(self) -> None:
        check(self, "config", at_least={"seed": 0, "n_threads": 0}, below={"seed": 2**63})
        if self.device.split(":")[0] not in ("cpu", "cuda", "mps"):
            raise MigvisError(f"found device = {self.device!r}; expected cpu, cuda or mps, as in cuda:0")
        if len(set(self.analyses)) < len(self.analyses):
            raise MigvisError(f"found analyses = {list(self.analyses)}; expected each once")
        if self.synthesis.is_conditioned and not self.prior.conditional:
            raise MigvisError(
                f"synthesis: found source_guidance = {self.synthesis.source_guidance:g} and "
                f"guidance_scale = {self.synthesis.guidance_scale:g} without "
                "prior.conditional; set prior.conditional, or both to 0"
            )
        for strength in (self.synthesis.strength, *self.synthesis.dose):
            if strength * self.prior.n_timesteps < self.synthesis.n_steps:
                raise MigvisError(
                    f"synthesis: found n_steps = {self.synthesis.n_steps} for a strength of {strength:g} and "
                    f"prior.n_timesteps = {self.prior.n_timesteps}; expected at most "
                    f"{int(strength * self.prior.n_timesteps)} steps; lower n_steps or raise the strength"
                )

    def __repr__(self) -> str:
        return "\n".join(config_lines(self, self._preset()))

    def _repr_html_(self) -> str:
        return config_html(self, self._preset())

    def _preset(self) -> Config:
        """Return the settings of the preset that is named, of the default one where it is unknown."""
        from nwb_migvis.config.presets import PRESETS

        return PRESETS.get(self.preset, PRESETS["quick"])

    @property
    def checkpoints(self) -> Path | None:
        """The folder of the cache, if there is one."""
        return Path(self.cache) if self.cache else None

    @classmethod
    def from_preset(cls, name: str = "quick") -> Config:
        """Return the settings of a preset.

        `quick` takes minutes on two CPU cores at a longest side of 64 px; `paper` has the sizes of the
        MIG-Vis paper (128 px, UNet 64 x (1, 2, 4, 8)) and needs a GPU.
        """
        from nwb_migvis.config.presets import PRESETS

        if name not in PRESETS:
            raise MigvisError(f"preset {name!r} is unknown; expected one of {nearest(name, PRESETS)}")
        return PRESETS[name]

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], *, preset: str | None = None, where: str = "config"
    ) -> Config:
        """Build a config from nested mappings; keys that are absent keep the preset's value.

        The preset is `preset`, else the one that the values name, else `quick`.

        Raises
        ------
        MigvisError
            For an unknown key or a value of the wrong type, naming its place.
        """
        if not isinstance(values, Mapping):
            raise MigvisError(f"{where}: found {values!r:.80}; expected a table of settings")
        chosen = preset or str(values.get("preset", "quick"))
        return merge(cls.from_preset(chosen), {**values, "preset": chosen}, where=where)

    @classmethod
    def from_stored(cls, values: Mapping[str, Any], *, where: str = "config") -> Config:
        """Build the config of a run from what it stored, of whatever version.

        A setting that did not exist yet has the value that stands for what the run did (`EARLIER`), not the
        preset's.

        Raises
        ------
        MigvisError
            As `from_dict`.
        """
        if isinstance(values, Mapping):
            parts = {name: values.get(name, {}) for name in EARLIER}
            known = {
                name: {**EARLIER[name], **part} for name, part in parts.items() if isinstance(part, Mapping)
            }
            values = {**values, **known}
        return cls.from_dict(values, where=where)

    @classmethod
    def from_toml(cls, path: str | Path, *, preset: str | None = None) -> Config:
        """Read a config from a TOML file.

        Raises
        ------
        MigvisError
            If the file is absent, does not parse, or holds an unknown key or a wrong type.
        """
        path = as_path(path, what="config")
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise MigvisError(f"config {path}: {error.strerror}; give the path of a TOML file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise MigvisError(f"config {path} is not valid TOML: {error}") from None
        return cls.from_dict(values, preset=preset, where=str(path))

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Read a config from the JSON that `to_json` wrote.

        Raises
        ------
        MigvisError
            If the text does not parse, or holds an unknown key or a wrong type.
        """
        try:
            values = json.loads(text)
        except (ValueError, TypeError) as error:
            raise MigvisError(f"config JSON is not valid: {error}; expected what to_json wrote") from None
        return cls.from_dict(values, where="config JSON")

    def to_dict(self) -> Json:
        """Return nested dicts and lists of plain values."""
        return plain(self)

    def to_toml(self) -> str:
        """Return the config as TOML."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())

    def to_json(self) -> str:
        """Return the config as JSON with sorted keys."""
        return json.dumps(self.to_dict(), sort_keys=True)
