"""`python -m tests.faults.model` prints what was explored; `--trace NAME` shows a counterexample."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from time import perf_counter
from typing import Any

from tests.faults.model import authority_scenarios, clients_scenarios, replica_scenarios, scenarios
from tests.faults.model.explore import Explorable, explore

# The models: what is explored, and their variants.
_MODELS = (scenarios, replica_scenarios, clients_scenarios, authority_scenarios)
_MUTANTS = {name: mutant for model in _MODELS for name, mutant in model.MUTANTS.items()}


def main() -> None:
    """Print the table, or one trace."""
    parser = ArgumentParser(prog="python -m tests.faults.model", description=__doc__)
    told: dict[str, Any] = {**_MUTANTS, **scenarios.LIMITS}
    parser.add_argument("--trace", choices=sorted(told), metavar="NAME", help="a mutant or a limit")
    name = parser.parse_args().trace
    if name is None:
        _table()
        return
    variant = told[name]
    changes = [name] if name in _MUTANTS else []
    trace = explore(variant.model(*changes), variant.violated).trace
    say(f"{name}: {variant.what} ({variant.scenario.name})")
    for number, step in enumerate(trace or ["no violation"], start=1):
        say(f"{number:4} {step}")


def _table() -> None:
    say(f"{'scenario':28}{'change':34}{'states':>9}{'steps':>7}{'seconds':>9}")
    for model in _MODELS:
        for scenario in model.FLOORS:
            _row(scenario, "", model.any_violation)
        for name, variant in {**model.MUTANTS, **model.SPARE}.items():
            _row(variant.model(name), name, variant.violated)
    for name, variant in scenarios.AMENDMENTS.items():
        _row(variant.model(name), name, variant.violated)
    for name, variant in scenarios.BURIALS.items():
        _row(variant.model(name), f"(buries) {name}", variant.violated)
    for name, variant in scenarios.LIMITS.items():
        _row(variant.model(), f"(limit) {name}", variant.violated)


def _row(model: Explorable[Any], name: str, violated: Callable[[Any], bool]) -> None:
    began = perf_counter()
    result = explore(model, violated)
    steps = "-" if result.trace is None else str(len(result.trace))
    say(f"{model.name:28}{name:34}{result.states:9}{steps:>7}{perf_counter() - began:9.1f}")


def say(line: str) -> None:
    """Write a line immediately."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
