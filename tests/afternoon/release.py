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
    """Build the wheels of the checkout, and those of the next release; return the version of the first."""
    for project in (checkout / "clients/python", checkout):
        (built,) = WheelBuilder(str(project)).build(directory=str(directory), versions=["standard"])
        _next_of(Path(built))
    return Path(built).name.split("-")[1]


def _next_of(wheel: Path) -> None:
    """Write the same wheel with another version, and with one more migration, if it has any."""
    name, version = wheel.name.split("-")[:2]
    old, new = f"{name}-{version}.dist-info", f"{name}-{NEXT}.dist-info"
    record: list[str] = []
    with (
        zipfile.ZipFile(wheel) as source,
        zipfile.ZipFile(wheel.with_name(wheel.name.replace(version, NEXT, 1)), "w") as target,
    ):
        contents = {each.replace(old, new): source.read(each) for each in source.namelist()}
        if migrations := sorted(each for each in contents if "/store/migrations/0" in each):
            number = int(Path(migrations[-1]).name[:4]) + 1
            contents[f"authsvc/store/migrations/{number:04}_afternoon.sql"] = _MIGRATION.encode()
        _replace(contents, f"{new}/METADATA", f"\nVersion: {version}\n", f"\nVersion: {NEXT}\n")
        if name == "authsvc":
            _replace(contents, f"{new}/METADATA", f"authsvc-client=={version}", f"authsvc-client=={NEXT}")
        else:
            _replace(contents, "authsvc/__init__.py", f'"{version}"', f'"{NEXT}"')
        del contents[f"{new}/RECORD"]
        for each, content in contents.items():
            target.writestr(each, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{each},sha256={digest},{len(content)}")
        target.writestr(f"{new}/RECORD", "\n".join([*record, f"{new}/RECORD,,", ""]))


def _replace(contents: dict[str, bytes], name: str, old: str, new: str) -> None:
    text = contents[name].decode()
    assert text.count(old) == 1
    contents[name] = text.replace(old, new).encode()


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
