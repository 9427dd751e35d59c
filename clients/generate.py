"""Generate the code of a client from the protos: `make clients`, or `python clients/generate.py go [OUT]`.

buf runs plugins that are installed on this machine. It gets descriptors, which do not have the rules for
fields, for the reasons of docs/adr/0007-vendored-validate.md.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
_GO = ROOT / ".tools" / "clients-go"
# Their versions are in the generated code.
_GO_PLUGINS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2",
)


def main(language: str, out: Path) -> None:
    """Write the generated code of a language below a directory, where its client is by default."""
    if language not in _PLUGINS:
        sys.exit(f"no code is generated for {language!r}; give one of: {', '.join(_PLUGINS)}")
    plugins = _PLUGINS[language]()
    with TemporaryDirectory() as temporary:
        image = Path(temporary, "authsvc.binpb")
        _run(sys.executable, ROOT / "protos" / "generate.py", "--descriptors", image)
        _run(
            Path(sys.executable).with_name("buf"),
            *("generate", image, "--path", "authsvc/v1"),
            *("--template", ROOT / "clients" / language / "buf.gen.yaml", "--output", out),
            PATH=os.pathsep.join((str(plugins), os.environ["PATH"])),
        )


def go_plugins() -> Path:
    """Install the plugins for Go, and return their directory."""
    for plugin in _GO_PLUGINS:
        _run("go", "install", plugin, GOBIN=str(_GO))
    return _GO


def _run(*command: str | Path, **environment: str) -> None:
    done = subprocess.run(command, env={**os.environ, **environment}, check=False)  # noqa: S603 - ours
    if done.returncode:
        sys.exit(done.returncode)


# By language: a function that returns the directory of its plugins.
_PLUGINS = {"go": go_plugins}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "clients" / sys.argv[1])
