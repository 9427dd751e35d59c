"""Collect JSON schemas for kubeconform: of Kubernetes from a wheel, of operators from their CRDs.

`schemas.py WHEEL CRDS OUT` writes OUT/v1.29.0 and OUT/v1.37.0, the oldest and the newest version that the
chart is checked against, OUT/crds with the CRDs, and OUT/operators with their schemas.
"""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import yaml

VERSIONS = ("1.29.0", "1.37.0")


def main(wheel: Path, crds: Path, out: Path) -> None:
    """Write all schemas."""
    with zipfile.ZipFile(wheel) as archive:
        for version in VERSIONS:
            directory = out / f"v{version}"
            directory.mkdir()
            # Unknown fields are errors there.
            prefix = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict/"
            for name in archive.namelist():
                if name.startswith(prefix) and name.endswith(".json"):
                    (directory / name.removeprefix(prefix)).write_bytes(_local(archive.read(name)))
    for directory in (out / "crds", out / "operators"):
        directory.mkdir()
    for file in crds.glob("*.yaml"):
        text = file.read_text("utf-8")
        (out / "crds" / file.name).write_text(text, "utf-8")
        for each in yaml.safe_load_all(text):
            if each and each["kind"] == "CustomResourceDefinition":
                _write(each["spec"], out / "operators")


def _local(schema: bytes) -> bytes:
    """Return a schema that finds the definitions beside itself, and not at the address that it names."""
    found = json.loads(schema.replace(b'"/api/_definitions.json#', b'"_definitions.json#'))
    found.pop("$id", None)
    return json.dumps(found).encode()


def _write(spec: dict[str, Any], out: Path) -> None:
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        _close(schema)
        schema["properties"]["metadata"] = {"type": "object"}
        name = f"{spec['names']['kind'].lower()}_{version['name']}.json"
        (out / name).write_text(json.dumps(schema), "utf-8")


def _close(schema: Any) -> None:
    """Make unknown fields errors, as the API server treats them with strict validation."""
    if isinstance(schema, list):
        for each in schema:
            _close(each)
    elif isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and not schema.get(
            "x-kubernetes-preserve-unknown-fields"
        ):
            schema.setdefault("additionalProperties", False)
        for each in schema.values():
            _close(each)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
