"""age as the recipients of sealed key strings have it: the program, and its implementation in Rust."""

import os
import shutil
import subprocess
from pathlib import Path

import pyrage
import pytest
from pyrage import x25519


def program(checkout: Path) -> Path:
    """Return the path of `age`, or skip the test and say how to get it."""
    found = shutil.which("age", path=f"{checkout / '.tools'}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(
            "no age: Debian package age, or GOBIN=$PWD/.tools go install filippo.io/age/cmd/age@v1.2.1"
        )
    return Path(found)


class Recipient:
    """Somebody with an identity of age."""

    def __init__(self) -> None:
        self.identity = x25519.Identity.generate()
        #: `age1…`
        self.public = str(self.identity.to_public())
        #: `AGE-SECRET-KEY-1…`
        self.secret = str(self.identity)

    def open(self, sealed: str) -> str:
        """Return what a file has, by the library."""
        return pyrage.decrypt(sealed.encode(), [self.identity]).decode()

    def open_by_program(self, age: Path, sealed: str, directory: Path) -> str:
        """Return what a file has, by the program."""
        key_file = directory / "identity.txt"
        key_file.write_text(f"# public key: {self.public}\n{self.secret}\n")
        done = subprocess.run(
            [age, "-d", "-i", key_file], input=sealed.encode(), capture_output=True, check=True, timeout=30
        )
        return done.stdout.decode()
