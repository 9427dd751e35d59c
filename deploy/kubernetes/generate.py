"""Write what is made of the Helm chart: `make manifests`.

That is deploy/kubernetes/base/authsvc.yaml, the objects for `kubectl apply`, and the table of values in
docs/kubernetes.md. The alerts of deploy/prometheus/rules.yaml are copied into the chart, which can only read
files of its own.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/authsvc"
MANIFESTS = ROOT / "deploy/kubernetes/base/authsvc.yaml"
DOCUMENT = ROOT / "docs/kubernetes.md"
RULES, RULES_OF_CHART = ROOT / "deploy/prometheus/rules.yaml", CHART / "rules.yaml"
_VALUES = ROOT / "deploy/kubernetes/base/values.yaml"
_BEGIN, _END = "<!-- values -->\n", "<!-- end of values -->\n"
_HEAD = """\
# The objects of authsvc, for `kubectl apply`. `make manifests` makes this file of the chart in
# deploy/helm/authsvc, with deploy/kubernetes/base/values.yaml: change these, and not this file.
"""


def helm() -> str:
    """Return the program, from PATH or `.tools/kubernetes`. Raises FileNotFoundError."""
    ours = ROOT / ".tools/kubernetes/helm"
    if found := shutil.which("helm") or (str(ours) if ours.exists() else None):
        return found
    raise FileNotFoundError("no helm: go install helm.sh/helm/v4/cmd/helm@latest, or see .ci/run")


def manifests() -> str:
    """Return what authsvc.yaml has to be."""
    command = [helm(), "template", "authsvc", str(CHART), "--namespace", "authsvc", "--values", str(_VALUES)]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    objects = re.sub(r"^# Source: .*\n", "", rendered, flags=re.MULTILINE)
    return _HEAD + re.sub(r"\n\s*\n", "\n", objects)


def document() -> str:
    """Return what docs/kubernetes.md has to be."""
    before, found, rest = DOCUMENT.read_text("utf-8").partition(_BEGIN)
    _, ends, after = rest.partition(_END)
    if not (found and ends):
        raise ValueError(f"{DOCUMENT}: the lines {_BEGIN.strip()} and {_END.strip()} are missing")
    return f"{before}{_BEGIN}\n{table()}\n{_END}{after}"


def table() -> str:
    """Return the table of values, with the comments of values.yaml."""
    rows = "".join(f"| `{name}` | {default} | {comment} |\n" for name, default, comment in values())
    return f"| value | default |  |\n| -- | -- | -- |\n{rows}"


def values() -> Iterator[tuple[str, str, str]]:
    """Yield each value: its path, its default and its comment."""
    text = (CHART / "values.yaml").read_text("utf-8")
    defaults = yaml.safe_load(text)
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if found := re.match(r" *# (.*)", line):
            comment.append(found[1])
        elif found := re.match(r"( *)(\w+):", line):
            path = [*path[: len(found[1]) // 2], found[2]]
            if comment:
                yield ".".join(path), _shown(_at(defaults, path)), " ".join(comment).removesuffix(".")
            comment = []
        elif not line:
            comment = []


def _at(values: Any, path: list[str]) -> Any:
    for name in path:
        values = values[name]
    return values


def _shown(default: object) -> str:
    if default in ("", [], {}):
        return ""
    text = yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
    return f"`{text}`"


def main() -> None:
    """Write all."""
    if RULES.exists():
        RULES_OF_CHART.write_bytes(RULES.read_bytes())
    MANIFESTS.write_text(manifests(), "utf-8")
    DOCUMENT.write_text(document(), "utf-8")


if __name__ == "__main__":
    try:
        main()
    except FileNotFoundError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(error.stderr)
