"""What the DANDI archive will refuse of a session, said before anything is uploaded."""

from __future__ import annotations

import re

import h5py

from nwb_migvis.sources import Source, open_hdf5

_AGE = re.compile(r"P(?!$)(\d+(\.\d+)?[YMWD])*(T(\d+(\.\d+)?[HMS])+)?(/.*)?")
_SPECIES = re.compile(r"[A-Z][a-z]+ [a-z]+( [a-z]+)*|https?://purl\.obolibrary\.org/obo/NCBITaxon_\d+")
_SEXES = ("M", "F", "U", "O")


def archive_notes(path: Source) -> list[str]:
    """Return what the archive asks for and a session's file lacks, one line each.

    The archive wants a subject with an id, a species by its Latin name, a sex (M, F, U or O) and an age (ISO
    8601, such as P8Y) or a date of birth. A session id tells files of one subject apart.

    Parameters
    ----------
    path : path, or another source
        NWB file that can be opened.
    """
    with open_hdf5(path) as file:
        subject = {name: text_at(file, f"general/subject/{name}") for name in _SUBJECT}
        has_subject, session_id = "general/subject" in file, text_at(file, "general/session_id")
    if not has_subject:
        return ["no subject (/general/subject)"]
    notes = []
    if not subject["subject_id"]:
        notes.append("no subject_id")
    if not _SPECIES.fullmatch(subject["species"]):
        notes.append(f"species is {subject['species']!r}; expected a Latin name such as 'Macaca mulatta'")
    if subject["sex"] not in _SEXES:
        notes.append(f"sex is {subject['sex']!r}; expected one of {', '.join(_SEXES)}")
    if not (subject["date_of_birth"] or _AGE.fullmatch(subject["age"])):
        notes.append(f"age is {subject['age']!r}; expected an ISO 8601 duration such as 'P8Y'")
    if not session_id:
        notes.append("no session_id, which tells sessions of one subject apart")
    return notes


_SUBJECT = ("subject_id", "species", "sex", "age", "date_of_birth")


def text_at(file: h5py.File, path: str) -> str:
    """Return the text at a path in a file, "" where there is none."""
    item = file.get(path)
    if not isinstance(item, h5py.Dataset) or h5py.check_string_dtype(item.dtype) is None or item.shape != ():
        return ""
    return str(item.asstr()[()]).strip()
