"""`authsvc deploy`: shows the files that an operator deploys with, which the wheel contains.

They are those of `deploy/` in a checkout, and the protos below `protos/`.
"""

import os
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from authsvc.model.errors import OperatorError

deploy = cyclopts.App(
    name="deploy",
    help_format="plaintext",
    help="List, show and write the files to deploy authsvc with: database roles, units, proxies, protos.",
)
_ALL = "."


@deploy.command(name="list")
def list_(name: str = _ALL) -> None:
    """List the names of the files, one on a line. README.md describes them.

    Parameters
    ----------
    name
        A folder, such as envoy or protos/authsvc, to list only what is below it.
    """
    for found in sorted(_below(name)):
        print(found)


@deploy.command
def show(
    name: str, *, output: Annotated[Path | None, Parameter(name=("--output", "-o"), metavar="DIR")] = None
) -> None:
    """Print a file, or write a file or a folder with all that is below it.

    Parameters
    ----------
    name
        A file as `authsvc deploy list` names it, a folder, or `.` for everything.
    output
        Write to this directory instead of printing. It is created if it is missing. If it already
        has one of the files, nothing is written.
    """
    chosen = _below(name)
    if output is not None:
        _write({output / target: file for target, file in _targets(name, chosen).items()})
    elif len(chosen) == 1 and _clean(name) in chosen:
        sys.stdout.buffer.write(chosen[_clean(name)].read_bytes())
        sys.stdout.buffer.flush()
    else:
        raise OperatorError(
            f"{name} is a folder: write its files with `authsvc deploy show {name} --output DIR`, "
            f"or list them with `authsvc deploy list {name}`"
        )


def _files() -> dict[str, Path]:
    """Return all files by their names.

    A wheel has the two folders inside of the package, and a checkout has them beside `src`.
    """
    package = Path(__file__).parents[1]
    for place in package, package.parents[1]:
        if (place / "deploy").is_dir() and (place / "protos").is_dir():
            deployed, protos = place / "deploy", place / "protos"
            found = {path.relative_to(deployed).as_posix(): path for path in deployed.rglob("*")}
            found |= {
                path.relative_to(place).as_posix(): path
                for path in protos.rglob("*")
                if path.suffix in {".proto", ".yaml"}
            }
            # In a checkout, deploy/compose/start.sh keeps its passwords in deploy/secrets.
            return {
                name: path
                for name, path in found.items()
                if path.is_file() and not name.startswith("secrets/")
            }
    raise OperatorError(
        "this installation has no files to deploy with, because it was built from an incomplete checkout: "
        "install authsvc from an index, or from a checkout with deploy/ and protos/"
    )


def _clean(name: str) -> str:
    """Return a name without what documents and shells add to it."""
    return name.removeprefix("./").removeprefix("deploy/").rstrip("/") or _ALL


def _below(name: str) -> dict[str, Path]:
    """Return the file of this name, or all files below the folder of this name."""
    files, wanted = _files(), _clean(name)
    if wanted in {_ALL, "deploy"}:
        return files
    chosen = {
        found: path for found, path in files.items() if found == wanted or found.startswith(f"{wanted}/")
    }
    if chosen:
        return chosen
    near = get_close_matches(wanted, files, 1) or [found for found in files if found.endswith(f"/{wanted}")]
    hint = f"; did you mean {near[0]}?" if near else ""
    raise OperatorError(f"there is no file or folder {name}{hint} `authsvc deploy list` lists all files")


def _targets(name: str, chosen: dict[str, Path]) -> dict[str, Path]:
    """Return the files by their paths below the directory that they are written to."""
    wanted = _clean(name)
    if wanted in {_ALL, "deploy"}:
        return chosen
    if wanted in chosen:
        return {wanted.rpartition("/")[2]: chosen[wanted]}
    return {found.removeprefix(f"{wanted}/"): path for found, path in chosen.items()}


def _write(targets: dict[Path, Path]) -> None:
    """Write each file, unless one of them is there already. What is a program may be run."""
    there = [str(target) for target in targets if os.path.lexists(target)]
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise OperatorError(
            f"--output: {there[0]}{more} already exists; nothing was written. Remove them, or choose another "
            "directory"
        )
    for written, (target, file) in enumerate(sorted(targets.items())):
        content = file.read_bytes()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as opened:
                opened.write(content)
            if content.startswith(b"#!"):
                target.chmod(target.stat().st_mode | 0o111)
        except OSError as error:
            left = (
                f"; the {written} files above were written: remove them before you repeat it"
                if written
                else ""
            )
            raise OperatorError(f"--output: cannot write {target}: {error.strerror}{left}") from error
        print(target)
