"""A sweep over settings of the latents, from a session file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nwb_migvis.analysis import sweep
from nwb_migvis.config import Config
from nwb_migvis.engines import LOOP, Engine
from nwb_migvis.extras import MODELS, require
from nwb_migvis.read import read_session


def sweep_file(
    path: str | Path, *, config: Config | None = None, engine: Engine = LOOP, **reading: Any
) -> pd.DataFrame:
    """Read a session and `sweep` it; parameters as in `run`."""
    require(MODELS, what="fitting")
    by: dict[str, Any] = {"engine": engine.name, "engine_kwargs": engine.settings}
    return sweep(read_session(path, **reading), config=config or Config(), **by)
