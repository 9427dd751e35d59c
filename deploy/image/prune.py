"""Removes what an image of authsvc does not need, and compiles what is left.

Run it with the Python of the environment that authsvc is installed in. It removes

- each distribution that authsvc does not need, such as what built authsvc, and at last pip,
- pip, setuptools, wheel and ensurepip of the interpreter that the environment was made from.

Then it compiles all modules. A container with a read-only file system could not keep compiled modules, and
would compile them again at each start. The compiled files hold no timestamps, which a builder may rewrite.
"""

import compileall
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

_INSTALLERS = ("pip", "setuptools", "wheel", "ensurepip", "pkg_resources", "_distutils_hack")


def needed(root: str, extras: Sequence[str]) -> set[str]:
    """Return the names of a distribution and of all that it and its extras need on this machine."""
    seen = {(root, extra) for extra in ("", *extras)}
    waiting = list(seen)
    while waiting:
        name, extra = waiting.pop()
        for requirement in map(Requirement, metadata.requires(name) or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                wanted = {(canonicalize_name(requirement.name), each) for each in ("", *requirement.extras)}
                waiting += wanted - seen
                seen |= wanted
    return {name for name, _ in seen}


def uninstall_the_rest(root: str, *extras: str) -> None:
    """Uninstall what a distribution and its extras do not need, except for pip, which does it."""
    installed = {canonicalize_name(each.metadata["Name"]) for each in metadata.distributions()}
    rest = sorted(installed - needed(root, extras) - {"pip"})
    if rest:
        subprocess.run([sys.executable, "-m", "pip", "uninstall", "--yes", "--quiet", *rest], check=True)  # noqa: S603


def libraries() -> list[Path]:
    """Return the directories of modules of the environment and of its interpreter."""
    own = [sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")]
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    of_base = [sysconfig.get_path(name, vars=base) for name in ("purelib", "platlib", "stdlib")]
    # Debian installs its packages there.
    debian = Path(sys.base_prefix, "lib/python3/dist-packages")
    return [path for path in dict.fromkeys([*map(Path, own), *map(Path, of_base), debian]) if path.is_dir()]


def remove_installers(directory: Path) -> None:
    """Remove what installs packages from a directory of modules."""
    for name in _INSTALLERS:
        for path in (
            directory / name,
            *directory.glob(f"{name}-*.dist-info"),
            *directory.glob(f"{name}-*.egg-info"),
        ):
            shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    """Prune the environment of this Python."""
    uninstall_the_rest("authsvc", "otel")
    for directory in libraries():
        remove_installers(directory)
    for binaries in (Path(sys.prefix, "bin"), Path(sys.base_prefix, "bin")):
        for script in binaries.glob("pip*"):
            script.unlink()
    # Debian's package for `python3 -m venv` keeps pip as wheels.
    shutil.rmtree(Path(sys.base_prefix, "share/python-wheels"), ignore_errors=True)
    for directory in libraries():
        compileall.compile_dir(
            directory,
            maxlevels=20,
            quiet=2,
            workers=0,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


main()
