"""Read result files that were made to harm: each must end in results or in one line that names the place.

    python benchmarks/fuzz_results.py --n 2000 --priors 500 --seed 0

Attributes, tables, weights (with digests that fit), links, names and sizes of a small file of results, and of
the session in it, are changed, one to three at a time. Each file is read, its models are built, its table is
printed and it is validated; of every 20th the session is inspected and the figure drawn, and every 100th is
edited further and validated by pynwb and nwbinspector too. Then `fuzz_priors.py` does the same with folders
of priors and caches.

That happens in a child process, which is started anew after a crash or a hang. A file ends badly with a
traceback, a signal, a hang, more than 2 GB of memory, a control character in what is printed, or if anything
is asked of the network, or a file outside is read or changed. Exit code 1 if any does, or if the unchanged
file is not read. Of the changes that alter what the results say, the share that `validate` names is printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import fuzz_priors
from changed_files import change_tensor, inflate
from fuzz_reading import endings
from hostile import LIMIT_S, Watch, ending_of, judge, say

BASE = Path(__file__).parents[1] / "tests" / "data" / "frozen_0_1_0.nwb"
NAME = "migvis"
RUN = f"analysis/{NAME}"
MORE, MOST = 20, 100
"""Every 20th file is inspected and drawn, every 100th edited further and wholly validated."""

ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**6, 10**18, 1e300),
    *("", "../x", "\x1b[2J", "$x_$", "hf_hub:a/b", "x" * 5000),
    *([], [1], {}, {"a": 1}, [[]]),
)


Change = Callable[[h5py.File, np.random.Generator], str]
"""Changes an open file and says what it changed."""


def whole(dataset: h5py.Dataset) -> np.ndarray:
    """Return the values of a dataset that no earlier change has inflated."""
    if dataset.nbytes > 2**28:
        raise MemoryError(f"{dataset.name} is said to hold {dataset.nbytes} bytes")
    return dataset[()]


def datasets_of(file: h5py.File) -> list[str]:
    names: list[str] = []
    file[RUN].visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) else None)
    return names


def odd_place(value: Any, rng: np.random.Generator) -> Any:
    """Return JSON in which one value, at a random depth, is another."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[rng.integers(len(keys))]
        if rng.random() < 0.1:
            value.pop(key)
        else:
            value[key] = odd_place(value[key], rng)
        return value
    return ODD[rng.integers(len(ODD))]


def difference(old: Any, new: Any) -> str:
    """Return where two JSON values differ first, and what is there now."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return next((f".{k}{difference(old[k], new[k])}" for k in old if old[k] != new[k]), "")
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return next(
            (f"[{i}]{difference(o, n)}" for i, (o, n) in enumerate(zip(old, new, strict=True)) if o != n), ""
        )
    return (
        f" = {new!r:.40}"
        if not isinstance(old, (dict, list)) or type(old) is not type(new)
        else " without a part"
    )


def change_json(file: h5py.File, rng: np.random.Generator) -> str:
    attributes = file[f"{RUN}/model"].attrs
    key = ("config", "versions", "digests", "provenance")[rng.integers(4)]
    if rng.random() < 0.1:
        attributes[key] = [3.0, "{", "[1]", '{"a": NaN}', '{"a": ' + "9" * 6000 + "}"][rng.integers(5)]
    else:
        old = json.loads(attributes[key])
        attributes[key] = json.dumps(odd_place(json.loads(attributes[key]), rng))
        return f"JSON of {key}{difference(old, json.loads(attributes[key]))}"
    return f"JSON of {key}"


def change_weights(file: h5py.File, rng: np.random.Generator) -> str:
    """Change settings or tensors of a network, with digests that fit."""
    from nwb_migvis.tensors import read_tensors, write_tensors

    network = ("vae", "critic", "prior")[rng.integers(3)]
    dataset = file[f"{RUN}/model/{network}"]
    arrays, metadata = read_tensors(whole(dataset).tobytes())
    arrays = dict(arrays)
    name = list(arrays)[rng.integers(len(arrays))]
    kind = rng.integers(6)
    if not change_tensor(arrays, name, kind, rng):
        metadata["nwb-migvis"] = json.dumps(odd_place(json.loads(metadata["nwb-migvis"]), rng))
    data = write_tensors(arrays, metadata)
    if rng.random() < 0.1:
        data = data[: rng.integers(len(data))]
    attributes = dict(dataset.attrs)
    del file[dataset.name]
    file[f"{RUN}/model/{network}"] = np.frombuffer(data, np.uint8)
    attributes["sha256"] = digest = hashlib.sha256(data).hexdigest()
    file[f"{RUN}/model/{network}"].attrs.update(attributes)
    digests = json.loads(file[f"{RUN}/model"].attrs["digests"])
    digests["weights"][network] = digest
    file[f"{RUN}/model"].attrs["digests"] = json.dumps(digests)
    return f"weights of the {network}, kind {kind}"


def change_column(file: h5py.File, rng: np.random.Generator) -> str:
    """Change values, type, length or presence of a column."""
    names = datasets_of(file)
    name = f"{RUN}/{names[rng.integers(len(names))]}"
    dataset = file[name]
    values, attributes = whole(dataset), dict(dataset.attrs)
    is_text = values.dtype.kind == "O"
    kind = rng.integers(6)
    if kind == 0 and len(values):
        odd = "\x1b]52;c;x\x07" if is_text else [-1, 0, 255, 2**31][rng.integers(4)]
        values[rng.integers(len(values))] = np.asarray(odd).astype(values.dtype)
    elif kind == 1:
        values = np.zeros(len(values), ["f4", "i8", "u1", "?", "S3"][rng.integers(5)])
    elif kind == 2:
        values = values[: len(values) // 2]
    elif kind == 3:
        values = np.concatenate([values] * 3)
    elif kind == 4:
        values = values[None]
    del file[name]
    if kind != 5:
        file[name] = values
        file[name].attrs.update(attributes)
    return f"column {name.removeprefix(RUN)}, kind {kind}"


def change_size(file: h5py.File, rng: np.random.Generator) -> str:
    """Say that a dataset of the run or the session is far larger than its bytes, or is of zeros."""
    names = [f"{RUN}/{n}" for n in datasets_of(file) if file[f"{RUN}/{n}"].dtype.kind != "O"]
    names = [*names, *SESSION] if rng.random() < 0.3 else names
    name = names[rng.integers(len(names))]
    inflate(file, name, rng)
    return f"size of {name.removeprefix(RUN)}"


def change_link(file: h5py.File, rng: np.random.Generator) -> str:
    """Put a link, a cycle, or an object of the other kind in the place of one."""
    names: list[str] = []
    file[RUN].visit(names.append)
    name = f"{RUN}/{names[rng.integers(len(names))]}"
    put: list[Callable[[], Any]] = [
        lambda: h5py.SoftLink("/nothing"),
        lambda: h5py.SoftLink(f"/{RUN}/latent_groups/group"),
        lambda: h5py.ExternalLink("../canaries/canary.h5", "/x"),
        lambda: file[RUN],
        lambda: np.zeros(3),
        lambda: file.create_group(f"scratch_{rng.integers(10**9)}"),
    ]
    target = put[rng.integers(len(put))]()
    del file[name]
    if rng.random() < 0.1:
        file.create_dataset(name, (4,), "f8", external=[("../canaries/canary.h5", 0, 32)])
    elif rng.random() < 0.1:
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource("../canaries/canary.h5", "x", (4,))
        file.create_virtual_dataset(name, layout)
    else:
        file[name] = target
    return f"link at {name.removeprefix(RUN)}"


def change_type(file: h5py.File, rng: np.random.Generator) -> str:
    """Change or remove an attribute."""
    names = [""]
    file[RUN].visit(names.append)
    item = file[f"{RUN}/{names[rng.integers(len(names))]}".rstrip("/")]
    if len(item.attrs):
        key = list(item.attrs)[rng.integers(len(item.attrs))]
        del item.attrs[key]
        if rng.random() < 0.7:
            item.attrs[key] = ["x", 3, np.zeros(4), "\x1b[2J", "VectorData"][rng.integers(5)]
        return f"attribute {key} of {item.name.removeprefix(f'/{RUN}')}"
    return "nothing"


def change_name(file: h5py.File, rng: np.random.Generator) -> str:
    """Give an object, or everything in a text column, a name that is not plain."""
    odd = ODD_NAMES[rng.integers(len(ODD_NAMES))]
    if rng.random() < 0.4:
        names = datasets_of(file)
        name = f"{RUN}/{names[rng.integers(len(names))]}"
        file.move(name, f"{name.rpartition('/')[0]}/{odd.replace('/', '_') or 'x'}")
        return f"name of {name.removeprefix(RUN)}"
    texts = [n for n in datasets_of(file) if file[f"{RUN}/{n}"].dtype.kind == "O"]
    column = file[f"{RUN}/{texts[rng.integers(len(texts))]}"]
    values = column.asstr()[()]
    old = values[rng.integers(len(values))]
    column[...] = [odd if value == old else value for value in values]
    return f"name in {column.name.removeprefix(f'/{RUN}')}"


def change_session(file: h5py.File, rng: np.random.Generator) -> str:
    """Change what the session holds: no stimuli, empty images, odd names, other times, another type."""
    templates, shown = file["stimulus/templates/images"], file["stimulus/presentation/presentations"]
    image = next(n for n in templates if n.startswith("im"))
    kind = rng.integers(8)
    if kind == 0:
        del file["stimulus/presentation/presentations"]
    elif kind == 1:
        attributes = dict(templates[image].attrs)
        del templates[image]
        templates.create_dataset(image, (0, 0), "u1").attrs.update(attributes)
    elif kind == 2:
        templates.move(image, ODD_NAMES[rng.integers(len(ODD_NAMES))].replace("/", "\u2215") or "x")
    elif kind == 3:
        del shown[next(n for n in shown if isinstance(shown[n], h5py.Dataset))]
    elif kind == 4:
        data = file["units/spike_times"]
        data[rng.integers(len(data))] = [np.nan, np.inf, 1e300, -1e300][rng.integers(4)]
    elif kind == 5:
        group = file.create_group("acquisition/deep")
        for _ in range(rng.integers(1, 300)):
            group = group.create_group("x")
    elif kind == 6:
        shown["data"][...] = np.full_like(whole(shown["data"]), 10**9)
    else:
        del file["units/spike_times_index"]
        file["units/spike_times_index"] = h5py.SoftLink("/units/spike_times_index")
    return f"session, kind {kind}"


SESSION = ("units/spike_times", "units/spike_times_index", "stimulus/presentation/presentations/data")
ODD_NAMES = (
    "",
    "../x",
    "/etc/passwd",
    "\x1b[2J",
    "a\nwrote /etc/passwd",
    "$x_$",
    "hf_hub:a/b",
    "\u202e",
    "x" * 5000,
)
CHANGES: tuple[Change, ...] = (
    *(change_json, change_weights, change_column) * 2,
    change_size,
    change_link,
    change_type,
    change_name,
    change_session,
)


IMPOSSIBLE = (
    *(KeyError, ValueError, TypeError, IndexError),
    *(AttributeError, OSError, StopIteration, MemoryError),
)


def record_digests(file: h5py.File) -> None:
    """Record what the tables say, as a run of today does."""
    from nwb_migvis import read_results
    from nwb_migvis.store.digests import IS_DIGESTED, TABLES, part_digests

    model = file[f"{RUN}/model"]
    tables = part_digests(read_results(BASE, NAME))
    for key, value in (("digests", {TABLES: tables}), ("provenance", {IS_DIGESTED: True})):
        model.attrs[key] = json.dumps(json.loads(model.attrs[key]) | value)


def make_files(folder: Path, n: int, seed: int) -> list[list[str]]:
    """Write `n` files, the first the unchanged one, and canaries; return what was changed in each."""
    (folder / "files").mkdir()
    (folder / "canaries").mkdir()
    with h5py.File(folder / "canaries" / "canary.h5", "w") as file:
        file["x"] = np.zeros(4)
    whole = Path(shutil.copyfile(BASE, folder / "files" / "0.nwb"))
    with h5py.File(whole, "r+") as file:
        del file["analysis/second"]
        record_digests(file)
    changed: list[list[str]] = [[]]
    for i in range(1, n):
        rng = np.random.default_rng([seed, i])
        path = Path(shutil.copyfile(whole, folder / "files" / f"{i}.nwb"))
        changed.append([])
        with h5py.File(path, "r+") as file:
            for _ in range(rng.integers(1, 4)):
                try:
                    changed[-1].append(CHANGES[rng.integers(len(CHANGES))](file, rng))
                except IMPOSSIBLE:
                    continue  # an earlier change took away, or inflated, what this one is of
    return changed


class Reader:
    """Does with one file after another what the commands do.

    Parameters
    ----------
    folder : Path
        Of `make_files`.
    """

    def __init__(self, folder: Path) -> None:
        from nwb_migvis import load_models, read_results
        from nwb_migvis.report import draw_edits
        from nwb_migvis.store.canonical import canonical

        self.files, self.out = folder / "files", folder / "out"
        self.out.mkdir(exist_ok=True)
        self.base = canonical(read_results(BASE, NAME))
        load_models(BASE, NAME)  # what is imported late is imported now
        draw_edits(BASE, NAME, out=self.out / "base.png")
        self.watch = Watch(folder / "canaries", allowed=[self.out])

    def read(self, i: int) -> str:
        """Return how a file ended, and whether its results are altered and validation names that."""
        path = self.files / f"{i}.nwb"
        before, named = path.read_bytes(), []
        ending, refused = ending_of(self._steps(path, i, named), self.watch)
        if path.read_bytes() != before:
            ending = f"outside: {path} was changed"
        about = {
            "refused": bool({"results", "models"} & set(refused)),
            "altered": bool(refused) or self._differs(path),
            "named": bool(named),
        }
        return f"{ending} :: {json.dumps(about)}"

    def _differs(self, path: Path) -> bool:
        from nwb_migvis import MigvisError, read_results
        from nwb_migvis.store.canonical import differences

        try:
            return bool(differences(self.base, read_results(path, NAME)))
        except (MigvisError, ValueError):
            return True

    def _steps(self, path: Path, i: int, named: list[str]) -> list[tuple[str, Callable[[], Any]]]:
        from nwb_migvis import inspect_session, load_models, read_results, synthesize_more
        from nwb_migvis.report import draw_edits, group_table
        from nwb_migvis.runs.validating import model_findings
        from nwb_migvis.store import list_runs, validate_file
        from nwb_migvis.store.decode import open_file
        from nwb_migvis.store.validate import own_findings

        read: list[Any] = []
        built: list[Any] = []

        def results() -> str:
            read.append(read_results(path, NAME))
            return group_table(read[0])

        def models() -> str:
            built.append(load_models(path, NAME))
            return repr(built[0])

        def findings() -> str:
            with open_file(path) as file:
                lines = [f"{f.location}: {f.message}" for f in own_findings(file) if f.importance == "error"]
            if not lines and not built:
                lines = [f.message for f in model_findings(path)]
            named.extend(lines)
            return "\n".join(lines)

        steps: list[tuple[str, Callable[[], Any]]] = [
            ("runs", lambda: "\n".join(map(repr, list_runs(path)))),
            ("results", results),
            ("repr", lambda: "\n".join(map(repr, read))),
            ("models", models),
            ("findings", findings),
        ]
        if i % MORE == 0:
            png, out = self.out / f"{i}.png", self.out / f"{i}.nwb"
            steps.append(("inspect", lambda: str(inspect_session(path))))
            steps.append(("figure", lambda: draw_edits(path, NAME, out=png)))
            if i % MOST == 0:
                steps.append(
                    ("edits", lambda: synthesize_more(path, group="pose", n=1, name=NAME, out=out) and None)
                )
                steps.append(("validate", lambda: "\n".join(f.message for f in validate_file(path))))
        return steps


def read_all(folder: Path, first: int, n: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    reader = Reader(folder)
    for i in range(first, n):
        say(i, reader.read(i))


def rate(endings: list[str], changed: list[list[str]]) -> list[str]:
    """Return the share of altered files that validation names, and what it did not name, by kind."""
    abouts = [json.loads(e.rpartition(" :: ")[2]) if " :: " in e else {} for e in endings]
    lines = []
    for what in ("refused", "altered"):
        such = [i for i, about in enumerate(abouts) if about.get(what)]
        unnamed = [i for i in such if not abouts[i]["named"]]
        lines.append(f"validate names {len(such) - len(unnamed)} of {len(such)} {what} files")
    kinds = Counter("; ".join(changed[i]) for i in unnamed)
    return [*lines, *(f"  not named ({count}): {what}" for what, count in kinds.most_common())]


def main() -> int:
    """Run the fuzzers and print how many files ended how."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--priors", type=int, default=0, help="folders of priors and caches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds a file may take")
    parser.add_argument("--verbose", action="store_true", help="print how each file ended")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        read_all(options.child, options.first, options.n)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        changed = make_files(Path(folder), options.n, options.seed)
        ends = endings(Path(folder), options.n, limit_s=options.limit, script=__file__)
    is_well = judge(ends, what=f"file of seed {options.seed}", verbose=options.verbose)
    print("\n".join(rate(ends, changed)))
    if options.priors:
        is_well &= fuzz_priors.fuzz(options.priors, seed=options.seed, limit_s=options.limit)
    return int(not is_well)


if __name__ == "__main__":
    sys.exit(main())
