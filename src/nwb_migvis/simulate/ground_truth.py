"""What the simulator knows and an experimenter would not: stored in `scratch`, apart from the labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json
from nwb_migvis.simulate.render import SHAPE, Stimuli

if TYPE_CHECKING:
    from pynwb import NWBFile

_STIMULI, _UNITS = "ground_truth_stimuli", "ground_truth_units"


def add_ground_truth(
    nwbfile: NWBFile,
    stimuli: Stimuli,
    planted_group: NDArray[np.str_],
    rate_hz: NDArray[np.float64],
    *,
    earlier_unit: NDArray[np.int64] | None = None,
    object_mask: NDArray[np.bool_] | None = None,
) -> None:
    """Put shape parameters, planted groups and expected rates into the file's `scratch`.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    stimuli : Stimuli
    planted_group : str (unit,)
    rate_hz : float (stimulus, unit)
    earlier_unit : int64 (unit,), optional
        Of a further session: what each unit was in the first one.
    object_mask : bool (stimulus, y, x), optional
        Where objects are, of square images; eight pixels make a byte in the file.
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
        if name in stimuli.factors
    ]
    columns.append(
        VectorData(
            name="rate_hz", description="Expected rate of each unit in Hz, in the order of units.", data=rates
        )
    )
    if object_mask is not None:
        bits = np.packbits(object_mask.reshape(len(object_mask), -1), axis=1)
        columns.append(
            VectorData(
                name="object_mask",
                description="Pixels of the object, row by row, eight to a byte, the first one highest.",
                data=H5DataIO(bits, compression="gzip"),
            )
        )
    nwbfile.add_scratch(
        DynamicTable(
            name=_STIMULI, description="Simulated truth about each image; no label of it.", columns=columns
        )
    )
    of_units = [
        VectorData(
            name="planted_group",
            description="Kind of factors that the unit was made to depend on.",
            data=planted_group.tolist(),
        )
    ]
    if earlier_unit is not None:
        of_units.append(
            VectorData(
                name="earlier_unit", description="Id of the unit in the first session.", data=earlier_unit
            )
        )
    nwbfile.add_scratch(
        DynamicTable(
            name=_UNITS,
            description="Simulated truth about each unit, in the order of the units table.",
            columns=of_units,
        )
    )


def read_settings(path: str | Path) -> Json:
    """Read the settings that a session was simulated with; empty for another file.

    Raises
    ------
    MigvisError
        If the file cannot be opened.
    """
    with _opened(Path(path)) as file:
        notes = file.get("general/notes")
        text = notes.asstr()[()] if isinstance(notes, h5py.Dataset) and notes.shape == () else ""
    try:
        settings = json.loads(text)
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) and "n_stimuli" in settings else {}


def read_ground_truth(path: str | Path) -> xr.Dataset:
    """Read what `simulate_session` stored about images and units.

    Parameters
    ----------
    path : str or Path
        A session written by `simulate_session`, or a file derived from one.

    Returns
    -------
    xarray.Dataset
        Dims (stimulus, unit): `rate_hz`, expected rate in Hz. Dim stimulus: `shape_1`, `shape_2` (-1 to 1),
        where the images were drawn by the simulator. Dims (stimulus, y, x): `object_mask`, pixels of the
        object, in files written since 0.2. Dim unit: `planted_group`, and `earlier_unit` (id in the
        first session) in a further session. Coordinates `stimulus` (names of the images) and `unit` (ids in
        the units table).

    Raises
    ------
    MigvisError
        If the file cannot be opened or holds no ground truth.
    """
    path = Path(path)
    with _opened(path) as file:
        scratch = file.get("scratch", {})
        if _STIMULI not in scratch or _UNITS not in scratch:
            raise MigvisError(
                f"{path} holds no table {_STIMULI!r} in scratch; give a session that `simulate_session` wrote"
            )
        stimuli, units = scratch[_STIMULI], scratch[_UNITS]
        data: dict[str, Any] = {name: ("stimulus", stimuli[name][:]) for name in SHAPE if name in stimuli}
        data["rate_hz"] = (("stimulus", "unit"), stimuli["rate_hz"][:])
        if "object_mask" in stimuli:
            data["object_mask"] = (("stimulus", "y", "x"), _masks(stimuli["object_mask"][:]))
        data["planted_group"] = ("unit", units["planted_group"].asstr()[:])
        if "earlier_unit" in units:
            data["earlier_unit"] = ("unit", units["earlier_unit"][:])
        return xr.Dataset(
            data, coords={"stimulus": stimuli["stimulus"].asstr()[:], "unit": file["units/id"][:]}
        )


def _masks(bits: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return masks of square images whose pixels were put into bytes; only the last byte is filled up."""
    side = int(np.sqrt(8 * bits.shape[1]))
    return np.unpackbits(bits, axis=1, count=side**2).reshape(-1, side, side).astype(np.bool_)


def _opened(path: Path) -> h5py.File:
    if not path.is_file():
        raise MigvisError(f"{path} does not exist; give the path of a simulated session")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise MigvisError(
            f"{path} does not open as an NWB file ({error}); give a simulated session"
        ) from None
