"""Open an NWB file for reading, and turn what goes wrong into one line that the user can act on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from nwb_migvis.errors import MigvisError
from nwb_migvis.files import check_regular
from nwb_migvis.read.damage import fatal_damage
from nwb_migvis.read.diagnosis import load_filters, why_not_readable
from nwb_migvis.read.sizes import check_size
from nwb_migvis.sources import Source, open_hdf5

if TYPE_CHECKING:
    from pynwb import NWBFile


def one_line(error: BaseException | str, *, limit: int = 200) -> str:
    """Return the text of an error on one line, cut to `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


def check_is_session(path: Source) -> None:
    """Raise `MigvisError` unless `path` is an HDF5 file that says that it is NWB 2."""
    if isinstance(path, Path):
        _check_is_file(path)
    try:
        damage = fatal_damage(path)
        if damage is not None:
            raise MigvisError(f"{path} is damaged: {damage}; get a whole copy of it")
        with open_hdf5(path) as file:
            version = file.attrs.get("nwb_version", file.get("nwb_version"))
            kind = file.attrs.get("neurodata_type")
            _check_sizes(file)
            _check_results(file)
    except MigvisError as error:
        raise MigvisError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except OSError as error:
        raise MigvisError(_why_not_opened(path, error)) from error
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise MigvisError(f"{path} is damaged: {one_line(error)}; get a whole copy of it") from error
    if kind not in ("NWBFile", b"NWBFile"):
        format_name = "NWB 1 (its root holds the version)" if version is not None else "HDF5 but not NWB"
        raise MigvisError(
            f"{path} is {format_name}: its root has neurodata_type {kind!r}; expected an NWB 2 file "
            f"('NWBFile')"
        )


def _check_is_file(path: Path) -> None:
    check_regular(path, what="session")
    if not path.exists():
        raise MigvisError(f"{path} does not exist; give the path of an NWB file")
    if path.is_dir():
        raise MigvisError(
            f"{path} is a directory; expected an NWB file in HDF5 format, so give the path of the file "
            "itself (a sorting that SpikeInterface saved there goes to `run` with --presentations)"
        )


def _check_sizes(file: h5py.File) -> None:
    """Refuse metadata that claim more bytes than the file holds: pynwb reads them whole."""

    def check(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            check_size(item)

    for name in file:
        if isinstance(file.get(name, getlink=True), h5py.HardLink):
            check(name, file[name])
    if isinstance(general := file.get("general"), h5py.Group):
        general.visititems(check)


def _check_results(file: h5py.File) -> None:
    """Refuse results whose data are in other files: no run writes such, and pynwb would open them."""
    if not isinstance(file.get("analysis", getlink=True), h5py.HardLink):
        return
    analysis = file["analysis"]
    names = list(analysis) if isinstance(analysis, h5py.Group) else []
    for name in names:
        is_own = isinstance(analysis.get(name, getlink=True), h5py.HardLink)
        run = analysis[name] if is_own else None
        if not isinstance(run, h5py.Group) or run.attrs.get("neurodata_type") != "MigvisRun":
            continue
        elsewhere = _kept_elsewhere(run)
        if elsewhere:
            raise MigvisError(
                f"{run.name}/{elsewhere[0]} has its data in another file; expected results to hold theirs; "
                f"get a whole copy, or remove {run.name} from the file"
            )


def _kept_elsewhere(run: h5py.Group) -> list[str]:
    """Return the places in a group whose data are in other files."""
    places: list[str] = []

    def see_link(place: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            places.append(place)

    def see_object(place: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
            places.append(place)

    try:
        run.visititems_links(see_link)
        run.visititems(see_object)
    except SystemError as error:  # h5py, of a name in it that is not UTF-8
        raise ValueError(f"{run.name} cannot be listed ({one_line(error.__cause__ or error)})") from error
    return places


def _why_not_opened(path: Source, error: OSError) -> str:
    if error.errno == 11 or "unable to lock" in str(error):
        return f"{path} is open elsewhere for writing (HDF5 lock); close it there and try again"
    if isinstance(error, PermissionError):
        return f"{path} may not be read (permission denied); make it readable"
    if "truncated file" in str(error):
        return f"{path} is truncated: it is shorter than its own header says; get a whole copy of it"
    if "file signature not found" in str(error):
        return f"{path} is not an NWB file: it has no HDF5 signature; give the path of an NWB file"
    return f"{path} cannot be opened as HDF5: {one_line(error)}; get a whole copy of it"


@contextmanager
def open_session(path: Source) -> Iterator[NWBFile]:
    """Open an NWB file for reading; nothing of a file on this machine stays open afterwards.

    Warnings of the libraries are silenced. Any failure of theirs inside the block, which comes from what
    the file holds, becomes a `MigvisError`.
    """
    from pynwb import NWBHDF5IO

    check_is_session(path)
    load_filters()
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")
        io: Any = None
        try:
            if isinstance(path, Path):
                io = NWBHDF5IO(path, mode="r")
            else:
                io = NWBHDF5IO(file=stack.enter_context(open_hdf5(path)), mode="r")
            yield io.read()
        except MigvisError as error:
            cause = why_not_readable(path) if "no stimuli" in str(error) else None
            if cause is None:
                raise
            raise MigvisError(f"{error} (and {cause})") from error
        except Exception as error:  # a damaged file raises nearly anything, from deep inside the libraries
            raise MigvisError(_why_not_read(path, error)) from error
        finally:
            if io is not None:
                io.close()


def _why_not_read(path: Source, error: Exception) -> str:
    from hdmf.build import ConstructError

    cause = why_not_readable(path)
    if cause is not None:
        return f"{path} cannot be read: {cause}"
    what = f"{type(error).__name__}: {one_line(error)}"
    if isinstance(error, ConstructError):
        builder, reason = error.args[0], error.args[-1]
        return (
            f"{path}: {getattr(builder, 'path', 'an object')} cannot be built: {one_line(reason)}; "
            f"correct the "
            "file, or, where another version of its NWB extension is imported, read it without importing that"
        )
    if isinstance(error, OSError | RuntimeError | MemoryError):
        return f"{path} cannot be read ({what}); the file is damaged: get a whole copy of it"
    return (
        f"{path} cannot be read ({what}): an object or attribute in it is not what NWB expects there; "
        f"have the "
        "file checked with nwbinspector or pynwb-validate, or get a whole copy of it"
    )
