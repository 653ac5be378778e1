"""Read result files that were made to harm: each must end in results or in one line that names the place.

    python benchmarks/fuzz_results.py --n 300 --seed 0

Attributes, tables, weights (with digests that fit), links, names and sizes of a small file of results are
changed, one to three at a time. Each file is read, its models are built, its table is printed and it is
validated, in a child process that is started anew after a crash or a hang. A file ends badly with a
traceback, a signal, a hang, more than 2 GB of memory, or a control character in what is printed. Exit code 1
if any does, or if the unchanged file is not read.
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

from fuzz_reading import endings

BASE = Path(__file__).parents[1] / "tests" / "data" / "frozen_0_1_0.nwb"
NAME = "migvis"
RUN = f"analysis/{NAME}"
BAD = ("traceback", "crash", "hang", "memory", "terminal")
MOST_BYTES = 2 * 2**30
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**6, 10**18, 1e300),
    *("", "../x", "\x1b[2J", "$x_$", "hf_hub:a/b", "x" * 5000),
    *([], [1], {}, {"a": 1}, [[]]),
)


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


def change_json(file: h5py.File, rng: np.random.Generator) -> None:
    attributes = file[f"{RUN}/model"].attrs
    key = ("config", "versions", "digests", "provenance")[rng.integers(4)]
    if rng.random() < 0.1:
        attributes[key] = [3.0, "{", "[1]", '{"a": NaN}', '{"a": ' + "9" * 6000 + "}"][rng.integers(5)]
    else:
        attributes[key] = json.dumps(odd_place(json.loads(attributes[key]), rng))


def change_weights(file: h5py.File, rng: np.random.Generator) -> None:
    """Change settings or tensors of a network, with digests that fit."""
    from nwb_migvis.store.safetensors import read_tensors, write_tensors

    network = ("vae", "critic", "prior")[rng.integers(3)]
    dataset = file[f"{RUN}/model/{network}"]
    arrays, metadata = read_tensors(dataset[()].tobytes())
    arrays = dict(arrays)
    name = list(arrays)[rng.integers(len(arrays))]
    kind = rng.integers(6)
    if kind == 0:
        del arrays[name]
    elif kind == 1:
        arrays[name] = arrays[name].astype(np.float64)
    elif kind == 2:
        arrays[name] = arrays[name].ravel()[: rng.integers(arrays[name].size + 1)]
    elif kind == 3:
        arrays[name] = np.full_like(arrays[name], [np.nan, np.inf, 0, -1][rng.integers(4)])
    else:
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


def change_column(file: h5py.File, rng: np.random.Generator) -> None:
    """Change values, type, length or presence of a column."""
    names = datasets_of(file)
    name = f"{RUN}/{names[rng.integers(len(names))]}"
    dataset = file[name]
    values, attributes = dataset[()], dict(dataset.attrs)
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


def change_size(file: h5py.File, rng: np.random.Generator) -> None:
    """Say that a dataset is far larger than its bytes, or is of zeros."""
    names = [n for n in datasets_of(file) if file[f"{RUN}/{n}"].dtype.kind != "O"]
    name = f"{RUN}/{names[rng.integers(len(names))]}"
    old = file[name]
    attributes, dtype, rest = dict(old.attrs), old.dtype, old.shape[1:]
    del file[name]
    shape = (int(10 ** rng.uniform(6, 12)), *rest)
    file.create_dataset(name, shape, dtype, chunks=(min(shape[0], 4096), *rest), compression="gzip")
    file[name].attrs.update(attributes)


def change_link(file: h5py.File, rng: np.random.Generator) -> None:
    """Put a link, a cycle, or an object of the other kind in the place of one."""
    names: list[str] = []
    file[RUN].visit(names.append)
    name = f"{RUN}/{names[rng.integers(len(names))]}"
    put: list[Callable[[], Any]] = [
        lambda: h5py.SoftLink("/nothing"),
        lambda: h5py.SoftLink(f"/{RUN}/latent_groups/group"),
        lambda: h5py.ExternalLink("/etc/hostname", "/x"),
        lambda: file[RUN],
        lambda: np.zeros(3),
        lambda: file.create_group(f"scratch_{rng.integers(10**9)}"),
    ]
    target = put[rng.integers(len(put))]()
    del file[name]
    file[name] = target


def change_type(file: h5py.File, rng: np.random.Generator) -> None:
    """Change or remove an attribute."""
    names = [""]
    file[RUN].visit(names.append)
    item = file[f"{RUN}/{names[rng.integers(len(names))]}".rstrip("/")]
    if len(item.attrs):
        key = list(item.attrs)[rng.integers(len(item.attrs))]
        del item.attrs[key]
        if rng.random() < 0.7:
            item.attrs[key] = ["x", 3, np.zeros(4), "\x1b[2J", "VectorData"][rng.integers(5)]


CHANGES = (
    *(change_json, change_weights, change_column) * 2,
    change_size,
    change_link,
    change_type,
)


def make_files(folder: Path, n: int, seed: int) -> None:
    """Write `n` files: the first is the unchanged one."""
    shutil.copyfile(BASE, folder / "0.nwb")
    for i in range(1, n):
        rng = np.random.default_rng([seed, i])
        path = Path(shutil.copyfile(BASE, folder / f"{i}.nwb"))
        with h5py.File(path, "r+") as file:
            for _ in range(rng.integers(1, 4)):
                try:
                    CHANGES[rng.integers(len(CHANGES))](file, rng)
                except (KeyError, ValueError, TypeError, IndexError, AttributeError, OSError):
                    continue  # an earlier change took away what this one is of


def ending_of(path: Path) -> str:
    """Do with a file what the commands do; say how it ended."""
    from nwb_migvis import MigvisError, load_models, read_results
    from nwb_migvis.report import group_table
    from nwb_migvis.store import list_runs

    ending = "read"
    steps: tuple[Callable[[], Any], ...] = (
        lambda: list_runs(path),
        lambda: group_table(read_results(path, NAME)),
        lambda: load_models(path, NAME),
        lambda: [f"{f.location}: {f.message}" for f in _findings(path)],
    )
    for step in steps:
        try:
            shown = step()
        except MigvisError as error:
            shown = str(error)
            ending = f"error {error}"
            if "allocate" in shown:
                return f"memory {shown}"
        except Exception as error:
            return f"traceback {step.__code__.co_firstlineno} {type(error).__name__}: {error}"
        if isinstance(shown, str) and any(not c.isprintable() and c != "\n" for c in shown):
            return f"terminal {shown!r:.200}"
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return ending if peak < MOST_BYTES else f"memory {peak} bytes"


def _findings(path: Path) -> list[Any]:
    from nwb_migvis.store.decode import open_file
    from nwb_migvis.store.validate import own_findings

    with open_file(path) as file:
        return list(own_findings(file))


def read_all(folder: Path, first: int, n: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for i in range(first, n):
        print(f"{i} " + " ".join(ending_of(folder / f"{i}.nwb").split()), flush=True)


def main() -> int:
    """Run the fuzzer and print how many files ended how."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds a file may take")
    parser.add_argument("--verbose", action="store_true", help="print how each file ended")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        read_all(options.child, options.first, options.n)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), options.n, options.seed)
        ends = endings(Path(folder), options.n, limit_s=options.limit, script=__file__)
    kinds = Counter(ending.split(" ", 1)[0] for ending in ends)
    print(", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items())))
    for i, ending in enumerate(ends):
        if options.verbose or ending.startswith(BAD):
            print(f"file {i} of seed {options.seed}: {ending}")
    return int(ends[0] != "read" or any(kinds[kind] for kind in BAD))


if __name__ == "__main__":
    sys.exit(main())
