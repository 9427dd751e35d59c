"""A plugin of pytest that prints, for each fault, what was done and how often the guarantee was broken."""

import pytest

# Set to the minimum number of verifications for each fault.
VOLUME = "AUTHSVC_TEST_VERIFICATIONS"
# `callers` lost their authority; `comparisons` are of what they had created then, and later.
_COLUMNS = (
    "operations",
    "verifications",
    "in_callers",
    "of_sessions",
    "of_tokens",
    "unavailable",
    "callers",
    "caller_calls",
    "comparisons",
    "violations",
    "load_seconds",
)
_rows: list[tuple[str, dict[str, object]]] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Store what a test has recorded."""
    if report.when == "call" or report.failed:
        told = dict(report.user_properties)
        if told or report.failed:
            told["outcome"] = report.outcome
            _rows.append((report.nodeid.rpartition("::")[2].removeprefix("test_"), told))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    write = terminalreporter.write_line
    width = max((len(name) for name, _ in _rows), default=5)
    write(f"\n{'fault':<{width}}" + "".join(f"{name.removeprefix('load_'):>14}" for name in _COLUMNS))
    totals = dict.fromkeys(_COLUMNS, 0.0)
    for name, told in _rows:
        cells = ""
        for column in _COLUMNS:
            number = float(str(told.get(column, 0)))
            totals[column] += number
            cells += f"{number:>14,.0f}"
        write(f"{name:<{width}}{cells}" + ("" if told["outcome"] == "passed" else f"  {told['outcome']}"))
    write(f"{'all':<{width}}" + "".join(f"{totals[column]:>14,.0f}" for column in _COLUMNS))
    for name, told in _rows:
        if "note" in told:
            write(f"{name}: {told['note']}")
