"""The SBOM of an environment in which authsvc is installed: CycloneDX, as JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

_SPEC = SchemaVersion.V1_6


class InvalidSbomError(Exception):
    """The document is not CycloneDX; the message says where."""


def make_sbom(python: Path, pyproject: Path, name: str, version: str, out: Path, *, epoch: int) -> None:
    """Write the SBOM of the environment of `python`, in which the distribution `name` is installed.

    The same environment gives the same bytes. Raises subprocess.CalledProcessError, and InvalidSbomError.
    """
    made = subprocess.run(
        [
            *(sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--no-validate"),
            *("--spec-version", _SPEC.to_version(), "--pyproject", str(pyproject), str(python)),
        ],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
        check=True,
        capture_output=True,
        text=True,
    )
    document = json.loads(made.stdout)
    # The tool does not know a version that the pyproject.toml takes from a module.
    document["metadata"]["component"] |= {"version": version, "purl": f"pkg:pypi/{name}@{version}"}
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    check_sbom(text)
    out.write_text(text, "utf-8")


def check_sbom(text: str) -> None:
    """Raise InvalidSbomError unless the text is CycloneDX without anything that the schema does not know."""
    fault = JsonStrictValidator(_SPEC).validate_str(text)
    if fault is not None:
        raise InvalidSbomError(f"the SBOM is not valid: {fault}")
