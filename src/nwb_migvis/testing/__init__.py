"""Small sessions, settings and results for tests: of this package, and of packages that build on it.

- `tiny_config`: settings of a run that takes seconds.
- `mock_session`: a simulated session in memory, as `read_session` returns it.
- `write_tiny_session`: the same session as an NWB file.
- `mock_results`: results with every table filled, without a run.
- `write_flawless_run`: a run on a simulated session whose edits are drawn by the simulator.

Nothing here loads torch or pytest, and the same arguments give the same arrays.
"""

from nwb_migvis.testing.configs import tiny_config
from nwb_migvis.testing.flawless import write_flawless_run
from nwb_migvis.testing.results import MOCK_WEIGHTS, mock_results
from nwb_migvis.testing.sessions import TINY_UNITS, mock_session, write_tiny_session

__all__ = [
    "MOCK_WEIGHTS",
    "TINY_UNITS",
    "mock_results",
    "mock_session",
    "tiny_config",
    "write_flawless_run",
    "write_tiny_session",
]
