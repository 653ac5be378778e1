"""Write `docs/schema-reference.md` from the specification in the top-level `spec/` folder.

Run `python src/spec/write_schema_reference.py` after `create_extension_spec.py`, and commit what it writes.
Why the types are as they are is written by hand, in `docs/schema.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
NAME = "ndx-migvis"
OPTIONAL = ("?", "*")


def main(folder: Path, file: Path) -> None:
    """Write the reference of the specification in a folder to a file."""
    yaml = YAML(typ="safe", pure=True)
    (namespace,) = yaml.load((folder / f"{NAME}.namespace.yaml").read_text(encoding="utf-8"))["namespaces"]
    spec = yaml.load((folder / f"{NAME}.extensions.yaml").read_text(encoding="utf-8"))
    types = [*spec.get("datasets", ()), *spec["groups"]]
    lines = [
        f"# Reference of `{NAME}` {namespace['version']}",
        "",
        "Generated from `spec/` by `src/spec/write_schema_reference.py`. [The schema](schema.md) says why.",
        "",
        *diagram(types),
    ]
    for one in types:
        lines += ["", *section(one)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def diagram(types: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a class diagram of the types: what each extends and holds."""
    own = {one["neurodata_type_def"] for one in types}
    yield "<!-- not run: a diagram -->"
    yield "```mermaid"
    yield "classDiagram"
    for one in types:
        name = one["neurodata_type_def"]
        yield f"    {one['neurodata_type_inc']} <|-- {name}"
        for part in (*one.get("groups", ()), *one.get("datasets", ())):
            kind = part.get("neurodata_type_inc")
            if kind in own or kind == "Images":
                label = f" : {part['name']}" if "name" in part else ""
                yield f'    {name} *-- "{_number(part)}" {kind}{label}'
    yield "```"


def section(one: dict[str, Any]) -> Iterator[str]:
    """Yield what a type is and holds."""
    yield f"## `{one['neurodata_type_def']}`"
    yield ""
    yield f"Extends `{one['neurodata_type_inc']}`. {one['doc']}"
    parts = [
        *(("attribute", part) for part in one.get("attributes", ())),
        *(("dataset", part) for part in one.get("datasets", ())),
        *(("group", part) for part in one.get("groups", ())),
    ]
    if not parts:
        return
    yield ""
    yield "| name | | type | shape | number | what |"
    yield "|---|---|---|---|---|---|"
    for kind, part in parts:
        cells = (_name(part), kind, _type(part), _shape(part), _number(part), part["doc"].replace("|", "\\|"))
        yield "| " + " | ".join(cells) + " |"


def _name(part: dict[str, Any]) -> str:
    return f"`{part['name']}`" if "name" in part else "(any)"


def _type(part: dict[str, Any]) -> str:
    return ", ".join(f"`{part[key]}`" for key in ("neurodata_type_inc", "dtype") if key in part)


def _shape(part: dict[str, Any]) -> str:
    dims = part.get("dims", ())
    sets = dims if dims and isinstance(dims[0], list) else [dims] if dims else []
    return " or ".join(f"({', '.join(one)})" for one in sets)


def _number(part: dict[str, Any]) -> str:
    if part.get("required") is False or part.get("quantity") == "?":
        return "0 or 1"
    return "any" if part.get("quantity") == "*" else "1"


if __name__ == "__main__":
    main(ROOT / "spec", ROOT / "docs" / "schema-reference.md")
