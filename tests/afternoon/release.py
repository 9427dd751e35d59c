"""Wheels of this release and of a next one, and what they depend on, so that nothing is downloaded."""

import base64
import hashlib
import shutil
import site
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

NEXT = "99.0.0"
_MIGRATION = """
-- What a release may do: it only adds.
CREATE TABLE authsvc.afternoon (note text PRIMARY KEY);
ALTER TABLE authsvc.keys ADD COLUMN afternoon text NOT NULL DEFAULT '';
"""


def build(checkout: Path, directory: Path) -> str:
    """Build the wheel of the checkout, and that of the next release; return the version of the first.

    And that of the client, where it is a distribution of its own.
    """
    client = checkout / "clients/python"
    if (client / "pyproject.toml").exists():
        WheelBuilder(str(client)).build(directory=str(directory), versions=["standard"])
    (built,) = WheelBuilder(str(checkout)).build(directory=str(directory), versions=["standard"])
    wheel = Path(built)
    version = wheel.name.split("-")[1]
    _next_of(wheel, version, directory)
    return version


def _next_of(wheel: Path, version: str, directory: Path) -> None:
    """Write the same wheel with another version, and with one more migration."""
    old, new = f"authsvc-{version}.dist-info", f"authsvc-{NEXT}.dist-info"
    record: list[str] = []
    with (
        zipfile.ZipFile(wheel) as source,
        zipfile.ZipFile(directory / wheel.name.replace(version, NEXT, 1), "w") as target,
    ):
        contents = {name.replace(old, new): source.read(name) for name in source.namelist()}
        migrations = sorted(name for name in contents if "/store/migrations/0" in name)
        number = int(Path(migrations[-1]).name[:4]) + 1
        contents[f"authsvc/store/migrations/{number:04}_afternoon.sql"] = _MIGRATION.encode()
        metadata = contents[f"{new}/METADATA"].decode()
        changed = metadata.replace(f"\nVersion: {version}\n", f"\nVersion: {NEXT}\n")
        assert changed != metadata
        contents[f"{new}/METADATA"] = changed.encode()
        del contents[f"{new}/RECORD"]
        for name, content in contents.items():
            target.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(content)}")
        target.writestr(f"{new}/RECORD", "\n".join([*record, f"{new}/RECORD,,", ""]))


def dependencies(directory: Path) -> Path:
    """Return a directory with all packages of our environment but authsvc itself."""
    directory.mkdir()
    (packages,) = (Path(place) for place in site.getsitepackages() if Path(place, "grpc").is_dir())
    for entry in packages.iterdir():
        if "authsvc" not in entry.name and entry.suffix != ".pth":
            (directory / entry.name).symlink_to(entry)
    return directory


def clean(directory: Path) -> None:
    """Remove what was built, which is large."""
    shutil.rmtree(directory, ignore_errors=True)
