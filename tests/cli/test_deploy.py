"""`authsvc deploy`: names, folders, and what it does not overwrite."""

from pathlib import Path

import pytest

from authsvc.cli.deploy import list_, show
from authsvc.model.errors import OperatorError

FILE = "nginx/authsvc.conf"


def listed(capsys: pytest.CaptureFixture[str], *name: str) -> list[str]:
    list_(*name)
    return capsys.readouterr().out.splitlines()


def test_everything_below_deploy_is_listed(capsys: pytest.CaptureFixture[str], checkout: Path) -> None:
    """What is added to deploy/ is listed without anybody naming it; of protos/, what describes the API."""
    found = listed(capsys)
    assert found == sorted(found)
    deployed = checkout / "deploy"
    expected = {path.relative_to(deployed).as_posix() for path in deployed.rglob("*") if path.is_file()}
    assert expected == {name for name in found if not name.startswith("protos/")}
    assert "protos/authsvc/v1/key_service.proto" in found
    assert not [name for name in found if name.startswith("protos/") and name.endswith((".py", ".binpb"))]
    assert not (deployed / "protos").exists()  # It would hide the other one.


@pytest.mark.parametrize("name", ["nginx", "nginx/", "deploy/nginx", "./deploy/nginx/", FILE])
def test_names_may_be_as_documents_and_shells_write_them(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert listed(capsys, name) == [FILE]


def test_a_file_is_printed_as_it_is(capfdbinary: pytest.CaptureFixture[bytes], checkout: Path) -> None:
    show(f"deploy/{FILE}")
    assert capfdbinary.readouterr().out == (checkout / "deploy" / FILE).read_bytes()


def test_a_folder_is_written(capsys: pytest.CaptureFixture[str], checkout: Path, tmp_path: Path) -> None:
    """Its files keep their places in it; a single file is written by its name."""
    show("protos/authsvc", output=tmp_path / "new" / "api")
    written = tmp_path / "new/api/v1/key_service.proto"
    assert str(written) in capsys.readouterr().out.splitlines()
    assert written.read_bytes() == (checkout / "protos/authsvc/v1/key_service.proto").read_bytes()
    show(FILE, output=tmp_path)
    assert (tmp_path / "authsvc.conf").exists()


@pytest.mark.parametrize("name", [".", "./", "deploy"])
def test_everything_is_written(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(name, output=tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert sorted(found) == listed(capsys)


def test_programs_can_be_run(tmp_path: Path) -> None:
    """Also those of a wheel, which may lose the modes of files."""
    show("compose", output=tmp_path)
    show(FILE, output=tmp_path)
    modes = {path.name: path.stat().st_mode & 0o111 for path in tmp_path.iterdir()}
    assert modes["start.sh"]
    assert not modes["authsvc.conf"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    """If one file is there, also as a link to nowhere, none is written."""
    there = tmp_path / "v1" / "key_service.proto"
    there.parent.mkdir()
    if kind == "file":
        there.write_text("mine")
    else:
        there.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OperatorError, match=f"--output: {there} already exists; nothing was written"):
        show("protos/authsvc", output=tmp_path)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [there]
    assert not (tmp_path / "nowhere").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OperatorError, match=r"--output: cannot write \S+/file/authsvc\.conf: "):
        show(FILE, output=tmp_path / "file")
    with pytest.raises(OperatorError, match=r"--output: cannot write \S+: File name too long$"):
        show(FILE, output=tmp_path / ("x" * 300))


def test_what_was_written_before_a_failure_is_told(tmp_path: Path) -> None:
    """It would keep the command from being repeated."""
    (tmp_path / "compose").symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        OperatorError, match=r"the \d+ files above were written: remove them before you repeat"
    ):
        show(".", output=tmp_path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("systemd", "systemd is a folder: write its files with `authsvc deploy show systemd --output DIR`"),
        ("nginx/authsvc.con", f"did you mean {FILE}"),
        ("authsvc.conf", f"did you mean {FILE}"),
        ("../pyproject.toml", "there is no file or folder"),
        ("protos/generate.py", "there is no file or folder"),
        ("/etc/passwd", "there is no file or folder"),
    ],
)
def test_other_names_are_refused(name: str, told: str) -> None:
    with pytest.raises(OperatorError) as raised:
        show(name)
    assert told in str(raised.value)


def test_an_installation_without_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "site-packages/authsvc/cli/deploy.py")
    monkeypatch.setitem(list_.__globals__, "__file__", elsewhere)
    with pytest.raises(OperatorError, match="this installation has no files to deploy with"):
        list_()


def test_passwords_of_compose_are_not_deployed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are in deploy/secrets of a checkout, which no copy of the files is to have."""
    for name in ("deploy/secrets/owner-password", "deploy/compose.yaml", "protos/buf.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    elsewhere = str(tmp_path / "src/authsvc/cli/deploy.py")
    monkeypatch.setitem(list_.__globals__, "__file__", elsewhere)
    show(".", output=tmp_path / "copy")
    copied = {path.name for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert copied == {"compose.yaml", "buf.yaml"}
