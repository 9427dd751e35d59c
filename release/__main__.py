"""`python -m release dist`: builds a release into a directory, and checks it.

Everything is built twice, the second time from a copy without the files that git ignores, and has to be the
same. Both packages are installed in a fresh environment, with the dependencies in the versions of
requirements.lock, and the SBOM names what is then in it. Requires an index of packages.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from authsvc import __version__
from release.packages import build, compare, copy_sources
from release.sbom import make_sbom

_CHECKOUT = Path(__file__).parents[1]
_NO_COMMIT = "1580601600"  # 2020-02-02, as the build tool has it by default


def main(out: Path) -> None:
    """Make the release in `out`, which is emptied first."""
    in_git = (_CHECKOUT / ".git").exists()
    committed = _output("git", "log", "-1", "--format=%ct", cwd=_CHECKOUT) if in_git else _NO_COMMIT
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or committed)
    if in_git and _output("git", "status", "--porcelain", cwd=_CHECKOUT):
        print("The checkout has changes that are not committed: do not publish this build.")
    shutil.rmtree(out, ignore_errors=True)
    built = build(_CHECKOUT, out, epoch=epoch)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        copy_sources(_CHECKOUT, place / "copy")
        compare(built, build(place / "copy", place / "again", epoch=epoch, umask=0o077))
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, built)], check=True)
        python = _installed(place / "environment", [path for path in built if path.suffix == ".whl"])
        for command in (["--version"], ["deploy", "show", "README.md"]):
            _output(python.with_name("authsvc"), *command, cwd=place)
        sbom = out / f"authsvc-{__version__}.cdx.json"
        make_sbom(python, _CHECKOUT / "pyproject.toml", "authsvc", __version__, sbom, epoch=epoch)
    sums = [(hashlib.sha256(path.read_bytes()).hexdigest(), path.name) for path in sorted(out.iterdir())]
    (out / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for digest, name in sums), "utf-8")
    print(f"Built twice with the same bytes, installed and checked; in {out}:")
    for digest, name in sums:
        print(f"{digest}  {name}")


def _installed(environment: Path, wheels: list[Path]) -> Path:
    """Install these wheels in a fresh environment, and return its Python.

    They are given as files: an index may have others of the same names.
    """
    python = environment / "bin" / "python"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(environment)], check=True)
    install = [*uv, "pip", "install", "--python", str(python), "--constraint", "requirements.lock"]
    subprocess.run([*install, *(str(wheel.resolve()) for wheel in wheels)], cwd=_CHECKOUT, check=True)
    return python


def _output(*command: str | Path, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m release DIRECTORY")
    main(Path(sys.argv[1]))
