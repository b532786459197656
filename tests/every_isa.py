"""Run something on one instruction set after the other, where a fixture is not enough."""

from fastconv import _core


def every_isa():
    """The name of each instruction set of this CPU, in force while the caller's loop body runs."""
    before = _core.isa()
    try:
        for name in _core.isa_names():
            _core.select_isa(name)
            yield name
    finally:
        _core.select_isa(before)


def every_isa_with_fma():
    """The same without the base line: those that must agree in every bit."""
    return (name for name in every_isa() if name != "baseline")
