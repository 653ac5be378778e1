"""What the simulator knows and an experimenter would not: stored in `scratch`, apart from the labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_migvis.errors import MigvisError
from nwb_migvis.simulate.render import SHAPE, Stimuli

if TYPE_CHECKING:
    from pynwb import NWBFile

_STIMULI, _UNITS = "ground_truth_stimuli", "ground_truth_units"


def add_ground_truth(
    nwbfile: NWBFile,
    stimuli: Stimuli,
    planted_group: NDArray[np.str_],
    rate_hz: NDArray[np.float64],
) -> None:
    """Put shape parameters, planted groups and expected rates into the file's `scratch`.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    stimuli : Stimuli
    planted_group : str (unit,)
    rate_hz : float (stimulus, unit)
    """
    from hdmf.common import DynamicTable, VectorData
    from pynwb import H5DataIO

    rates = H5DataIO(rate_hz.astype(np.float32), compression="gzip", shuffle=True)
    columns = [VectorData(name="stimulus", description="Name of the image.", data=stimuli.names)]
    columns += [
        VectorData(
            name=name,
            description="Within-category shape of the solid, -1 to 1; its effect depends on the category.",
            data=stimuli.factors[name].to_numpy(),
        )
        for name in SHAPE
    ]
    columns.append(
        VectorData(
            name="rate_hz", description="Expected rate of each unit in Hz, in the order of units.", data=rates
        )
    )
    nwbfile.add_scratch(
        DynamicTable(
            name=_STIMULI, description="Simulated truth about each image; no label of it.", columns=columns
        )
    )
    nwbfile.add_scratch(
        DynamicTable(
            name=_UNITS,
            description="Simulated truth about each unit, in the order of the units table.",
            columns=[
                VectorData(
                    name="planted_group",
                    description="Kind of factors that the unit was made to depend on.",
                    data=planted_group.tolist(),
                )
            ],
        )
    )


def read_ground_truth(path: str | Path) -> xr.Dataset:
    """Read what `simulate_session` stored about images and units.

    Parameters
    ----------
    path : str or Path
        A session written by `simulate_session`, or a file derived from one.

    Returns
    -------
    xarray.Dataset
        Dims (stimulus, unit): `rate_hz`, expected rate in Hz. Dim stimulus: `shape_1`, `shape_2` (-1 to 1).
        Dim unit: `planted_group`. Coordinates `stimulus` (names of the images) and `unit` (ids in the
        units table).

    Raises
    ------
    MigvisError
        If the file cannot be opened or holds no ground truth.
    """
    path = Path(path)
    if not path.is_file():
        raise MigvisError(f"{path} does not exist; give the path of a simulated session")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise MigvisError(
            f"{path} does not open as an NWB file ({error}); give a simulated session"
        ) from None
    with file:
        scratch = file.get("scratch", {})
        if _STIMULI not in scratch or _UNITS not in scratch:
            raise MigvisError(
                f"{path} holds no table {_STIMULI!r} in scratch; give a session that `simulate_session` wrote"
            )
        stimuli, units = scratch[_STIMULI], scratch[_UNITS]
        data: dict[str, Any] = {name: ("stimulus", stimuli[name][:]) for name in SHAPE}
        data["rate_hz"] = (("stimulus", "unit"), stimuli["rate_hz"][:])
        data["planted_group"] = ("unit", units["planted_group"].asstr()[:])
        return xr.Dataset(
            data, coords={"stimulus": stimuli["stimulus"].asstr()[:], "unit": file["units/id"][:]}
        )
