"""The package as a whole: what its papers say, and what the compiler made of the kernels."""

import doctest
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastconv
from fastconv import _core

ROOT = Path(__file__).parents[1]


def test_readme_examples_run():
    failed, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert tried > 0 and failed == 0


def test_changelog_speaks_of_this_version():
    assert re.search(
        rf"^## {re.escape(fastconv.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M
    )


def test_contributing_names_files_that_exist():
    named = re.findall(r"`((?:src_c|fastconv|tests|bench|examples)/[\w./]+)`",
                       (ROOT / "CONTRIBUTING.md").read_text())  # fmt: skip
    missing = [name for name in named if not (ROOT / name).exists()]
    assert named and not missing


def test_types_are_shipped():
    assert Path(fastconv.__file__).with_name("py.typed").exists()


def test_import_needs_numpy_alone():
    """No peer library, nor anything else that is only for tests, is imported along the way."""
    program = "import sys, fastconv; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    imported = set(run.stdout.split()) - set(sys.stdlib_module_names)
    assert {name for name in imported if not name.startswith(("_", "cython"))} <= {
        "fastconv", "numpy"}  # fmt: skip


WIDE = {"avx2": "ymm", "avx512": "zmm"}


@pytest.fixture(scope="module")
def registers():
    """For each function of the extension module the kinds of wide registers that it uses."""
    if platform.machine() not in ("x86_64", "AMD64") or not shutil.which("objdump"):
        pytest.skip("needs objdump and x86-64")
    listing = subprocess.run(
        ["objdump", "--disassemble", "--no-show-raw-insn", _core.__file__],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    used = {}
    for function in re.split(r"^[0-9a-f]+ (?=<)", listing, flags=re.M)[1:]:
        name = function[1 : function.index(">:")]
        used.setdefault(name, set()).update(re.findall(r"%([yz]mm)\d", function))
    if not any(name.startswith("fc_gemm_f32_baseline") for name in used):
        pytest.skip("the extension module is stripped")
    return used


def test_wide_registers_stay_in_the_kernels_that_are_dispatched(registers):
    """An -march=native from outside would make the baseline crash on an older CPU."""
    leaked = {
        name: kinds
        for name, kinds in registers.items()
        if kinds and not any(isa in name for isa in WIDE)
    }
    assert not leaked
    assert not any("zmm" in kinds for name, kinds in registers.items() if "avx2" in name)


@pytest.mark.parametrize("isa", WIDE)
def test_each_instruction_set_uses_its_registers(registers, isa):
    """clang can drop the target of a function silently."""
    for dtype in ("f32", "f64"):
        used = set().union(
            *(
                kinds
                for name, kinds in registers.items()
                if name.startswith(f"fc_gemm_{dtype}_{isa}")
            )
        )
        assert WIDE[isa] in used
