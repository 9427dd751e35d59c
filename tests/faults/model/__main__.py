"""`python -m tests.faults.model` prints what was explored; `--trace NAME` tells a counterexample."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from time import perf_counter

from tests.faults.model.explore import explore
from tests.faults.model.protocol import Model, State
from tests.faults.model.scenarios import AMENDMENTS, BURIALS, FLOORS, LIMITS, MUTANTS, SPARE, any_violation


def main() -> None:
    """Print the table, or one trace."""
    parser = ArgumentParser(prog="python -m tests.faults.model", description=__doc__)
    told = {**MUTANTS, **LIMITS}
    parser.add_argument("--trace", choices=sorted(told), metavar="NAME", help="a mutant or a limit")
    name = parser.parse_args().trace
    if name is None:
        _table()
        return
    variant = told[name]
    changes = [name] if name in MUTANTS else []
    trace = explore(variant.model(*changes), variant.violated).trace
    say(f"{name}: {variant.what} ({variant.scenario.name})")
    for number, step in enumerate(trace or ["no violation"], start=1):
        say(f"{number:4} {step}")


def _table() -> None:
    say(f"{'scenario':26}{'change':30}{'states':>9}{'steps':>7}{'seconds':>9}")
    for scenario in FLOORS:
        _row(scenario, "", any_violation)
    for name, variant in {**MUTANTS, **SPARE, **AMENDMENTS}.items():
        _row(variant.model(name), name, variant.violated)
    for name, variant in BURIALS.items():
        _row(variant.model(name), f"(buries) {name}", variant.violated)
    for name, variant in LIMITS.items():
        _row(variant.model(), f"(limit) {name}", variant.violated)


def _row(model: Model, name: str, violated: Callable[[State], bool]) -> None:
    began = perf_counter()
    result = explore(model, violated)
    steps = "-" if result.trace is None else str(len(result.trace))
    say(f"{model.name:26}{name:30}{result.states:9}{steps:>7}{perf_counter() - began:9.1f}")


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
