"""What `import nwb_migvis` loads, and that the base install reads results."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "spikeinterface", "matplotlib", "scipy", "sklearn", "nwbinspector")


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "statement",
    [
        "import nwb_migvis",
        "from nwb_migvis import read_session, read_results, Config, Results",
        "import nwb_migvis.cli",
    ],
)
def test_a_fresh_import_is_light(statement):
    # pynwb and hdmf may pull in scipy by themselves; only what they do not load counts against us.
    before = f"import sys, pynwb, xarray; before = set(sys.modules); {statement};"
    loaded = _run(f"{before} print(*[m for m in {HEAVY!r} if m in sys.modules and m not in before])")
    assert loaded == ""


def test_importing_registers_the_extension():
    code = (
        "import nwb_migvis, pynwb; print('ndx-migvis' in pynwb.get_type_map().namespace_catalog.namespaces)"
    )
    assert _run(code) == "True"


def test_every_public_name_resolves():
    code = "import nwb_migvis; print(*[n for n in nwb_migvis.__all__ if getattr(nwb_migvis, n) is None])"
    assert _run(code) == ""


def test_an_unknown_name_is_an_attribute_error():
    code = "import nwb_migvis\ntry:\n    nwb_migvis.nothing\nexcept AttributeError as e:\n    print(e)"
    assert "nothing" in _run(code)
