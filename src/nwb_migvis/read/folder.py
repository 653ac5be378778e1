"""Image files: those that an NWB file refers to, and those that the user supplies for a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from nwb_migvis.errors import MigvisError
from nwb_migvis.files import read_csv
from nwb_migvis.read.pixels import FilePixels

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff")


def resolve_external(path: str, folder: Path, *, place: str, allow_outside: bool) -> Path:
    """Return the file that a path in an NWB file means.

    Parameters
    ----------
    path : str
        Relative to the NWB file's folder, or absolute.
    folder : Path
        Folder of the NWB file.
    place : str
        Object that holds the path, for messages.
    allow_outside : bool
        Whether the file may lie outside `folder`.

    Raises
    ------
    MigvisError
        If the file lies outside and that is not allowed, is a URL, or does not exist.
    """
    if "://" in path:
        raise MigvisError(
            f"{place}: image {path!r} is a URL; expected a file: download it beside the NWB file"
        )
    inside = folder.resolve()
    target = (inside / path).resolve()
    if not allow_outside and not target.is_relative_to(inside):
        raise MigvisError(
            f"{place}: image path {path!r} leaves the NWB file's folder; expected a path inside it: move the "
            "image there, or allow it with allow_outside=True (--allow-outside)"
        )
    if not target.is_file():
        raise MigvisError(
            f"{place}: image file {path!r} does not exist; expected it at {target}: put it there"
        )
    return target


def images_by_stimulus(
    images: str | Path | Mapping[str, str | Path] | None,
) -> Path | Mapping[str, str | Path] | None:
    """Return a folder, or the mapping that a CSV holds: columns `stimulus` and `file`, beside the CSV.

    Raises
    ------
    MigvisError
        If a path is neither a folder nor such a CSV.
    """
    if images is None or isinstance(images, Mapping):
        return images
    path = Path(images)
    if path.suffix.lower() == ".csv" and path.is_file():
        table = read_csv(path, what="images", needs=("stimulus", "file"), dtype=str, keep_default_na=False)
        again = table["stimulus"][table["stimulus"].duplicated()]
        if len(again):
            raise MigvisError(
                f"images {path} has stimulus {again.iloc[0]!r} twice; expected each once: remove one row"
            )
        rows = zip(table["stimulus"], table["file"], strict=True)
        return {stimulus: path.parent / file for stimulus, file in rows}
    if not path.is_dir():
        state = "is not a folder" if path.exists() else "does not exist"
        raise MigvisError(
            f"images folder {images} {state}; give the folder that holds the image files, or a CSV with the "
            "columns stimulus and file"
        )
    return path


def supplied_images(names: Sequence[str], images: str | Path | Mapping[str, str | Path]) -> list[FilePixels]:
    """Find a file for each stimulus in a folder or a mapping.

    In a folder, a stimulus is the file of its name, else the one image whose name without its suffix is
    the stimulus's, with or without the stimulus's own suffix; folders in the stimulus's name are used
    where they exist and dropped where not.

    Parameters
    ----------
    names : sequence of str
        Stimulus ids.
    images : path or mapping of str to path
        A folder, or stimulus id -> file.

    Raises
    ------
    MigvisError
        If files are absent (how many, and which first) or ambiguous.
    """
    if isinstance(images, Mapping):
        where = "the mapping of images"
        chosen = [_existing(Path(images[name]), name) if name in images else None for name in names]
    else:
        folder = Path(images)
        where = f"images folder {folder}"
        stems: dict[str, list[Path]] = {}
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() in SUFFIXES:
                stems.setdefault(file.stem, []).append(file)
        chosen = [_in_folder(name, folder, stems) for name in names]
    missing = [name for name, file in zip(names, chosen, strict=True) if file is None]
    if missing:
        raise MigvisError(
            f"{where} lacks {len(missing)} of {len(names)} images, first {missing[0]!r}; expected a file for "
            "each stimulus, named as the session names it: add the files"
        )
    return [FilePixels.from_file(file) for file in chosen if file is not None]


def _existing(file: Path, name: str) -> Path:
    if not file.is_file():
        raise MigvisError(
            f"image file {file} of stimulus {name!r} does not exist; expected it where the mapping says: put "
            "it there, or correct the mapping"
        )
    return file


def _in_folder(name: str, folder: Path, stems: Mapping[str, list[Path]]) -> Path | None:
    inside = PurePosixPath(name.replace("\\", "/"))
    if not inside.name:
        return None
    if not inside.is_absolute() and ".." not in inside.parts and (folder / inside).is_file():
        return folder / inside
    if (folder / inside.name).is_file():
        return folder / inside.name
    is_file_name = inside.suffix.lower() in SUFFIXES
    matches = stems.get(inside.stem if is_file_name else inside.name, [])
    if len(matches) > 1:
        raise MigvisError(
            f"images folder {folder} has {len(matches)} files for stimulus {name!r}: "
            f"{', '.join(file.name for file in matches)}; expected one: remove the others"
        )
    return matches[0] if matches else None
