"""The recipes of docs/client.md without changes, in forked processes."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.client.web import Answer, Web
from tests.e2e.process import Server, environment, run, running, until

# Serves an application at a free port, with one process per request.
_SERVE = """
from werkzeug.serving import make_server
server = make_server("127.0.0.1", 0, {application}, processes=4)
print("port", server.server_port, flush=True)
server.serve_forever()
"""
_FLASK = "from recipe import app\n" + _SERVE.format(application="app")
_DJANGO = """
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

from authsvc.client import current

def orders(request):
    return HttpResponse(f"the orders of {current().owner_id}\\n")

urlpatterns = [path("orders", orders)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
from recipe import application
""" + _SERVE.format(application="application")
# One process, as uvicorn runs it.
_FASTAPI = """
import uvicorn
uvicorn.run("recipe:app", port=0)
"""
# Sends a task to the worker, and prints the result.
_ENQUEUE = """
import sys
from inbox import app, accept
print(accept.delay(sys.argv[1]).get(timeout=60))
"""
_BROKER = """
broker_url = "filesystem://"
broker_transport_options = {
    "data_folder_in": "queue",
    "data_folder_out": "queue",
    "control_folder": "control",
}
result_backend = "file://results"
"""


@pytest.fixture(scope="module")
def server(reachable_dir: Path) -> Iterator[Server]:
    directory = reachable_dir / "recipes"
    directory.mkdir()
    with running("dev", directory) as server:
        yield server


@pytest.fixture
def recipe(checkout: Path, server: Server, directory: Path) -> "Recipe":
    return Recipe(checkout / "docs/client.md", server, directory)


class Recipe:
    """A recipe in a directory of its own, with the address and the key of a running authsvc."""

    def __init__(self, document: Path, server: Server, directory: Path) -> None:
        self.directory, self._server = directory, server
        self._blocks = re.findall(r"```python\n(.*?)```", document.read_text("utf-8"), re.DOTALL)
        own = self.create("authsvc", "keys:verify")
        (directory / "authsvc.key").write_text(own)

    def create(self, owner: str, scope: str) -> str:
        made = self._server.run("keys", "create", owner, "A key", "--scope", scope)
        assert made.code == 0, made.stderr
        return made.stdout.strip()

    def write(self, module: str, about: str) -> None:
        """Write the recipe that imports `about`, adapted to this machine."""
        [text] = [block for block in self._blocks if f"from {about} import" in block]
        for documented, here in (
            ('"authsvc.internal:50051"', f'"{self._server.address}"'),
            ('Path("/run/secrets/authsvc.key")', 'Path("authsvc.key"), tls=None, deadline=30'),
        ):
            assert documented in text
            text = text.replace(documented, here)
        (self.directory / f"{module}.py").write_text(text)

    @contextmanager
    def running(self, *command: str, ready: str) -> Iterator[str]:
        """Run Python while the block runs, and yield what it prints when it is ready."""
        output = self.directory / "output"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=environment(),
                start_new_session=True,
            )
        try:

            def told() -> re.Match[str] | None:
                assert process.poll() is None, output.read_text("utf-8")
                return re.search(ready, output.read_text("utf-8"))

            until(told, 60)
            match = told()
            assert match is not None
            yield match[match.lastindex or 0]
            process.terminate()
            process.wait(30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize(
    ("framework", "program", "text"),
    [
        ("flask", _FLASK, "the orders of acme\n"),
        ("django.core.wsgi", _DJANGO, "the orders of acme\n"),
        ("fastapi", _FASTAPI, '{"orders_of":"acme"}'),
    ],
)
def test_a_web_application(recipe: Recipe, framework: str, program: str, text: str) -> None:
    """With WSGI, every request is served by a process that was forked for it, with a client of its own."""
    recipe.write("recipe", framework)
    reader, writer = recipe.create("acme", "orders:read"), recipe.create("acme", "orders:write")
    with recipe.running("-c", program, ready=r"(?:port |running on http://127.0.0.1:)(\d+)") as port:
        web = Web(int(port), recipe.directory)

        def get(credential: str) -> Answer:
            return web.send("GET", "/orders", ("authorization", f"Bearer {credential}"))

        assert get(reader).body.decode() == text
        assert get(writer).outcome == (403, "SCOPE_MISSING")
        assert get("nonsense").outcome == (401, "CREDENTIAL_INVALID")
        assert web.send("GET", "/orders").outcome == (401, "CREDENTIAL_MISSING")
        assert web.send("POST", "/orders").outcome == (403, "ROUTE_NOT_PERMITTED")
        (recipe.directory / "authsvc.key").write_text("nonsense")
        assert get(reader).outcome == (503, "VERIFIER_UNAVAILABLE")
    assert reader not in (recipe.directory / "output").read_text("utf-8")


def test_a_task_of_celery(recipe: Recipe) -> None:
    """Processes of a real worker's pool use clients of their own; the broker contains no key string."""
    recipe.write("inbox", "celery")
    for name, text in (("celeryconfig", _BROKER), ("enqueue", _ENQUEUE)):
        (recipe.directory / f"{name}.py").write_text(text)
    for name in ("queue", "control", "results"):
        (recipe.directory / name).mkdir()
    with (recipe.directory / "inbox.py").open("a") as module:
        module.write('\napp.config_from_object("celeryconfig")\n')
    good = recipe.create("acme", "orders:write")
    uploads = {"good": (good, "acme\n"), "bad": ("nonsense", "None\n")}
    worker = ("-m", "celery", "-A", "inbox", "worker", "--pool", "prefork", "--concurrency", "2")
    options = ("--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat")
    with recipe.running(*worker, *options, ready=r"celery@\S+ ready"):
        for name, (key_string, outcome) in uploads.items():
            (recipe.directory / name).mkdir()
            (recipe.directory / name / "key").write_text(key_string)
            done = run(sys.executable, "enqueue.py", name, cwd=recipe.directory, env=environment())
            assert (done.code, done.stdout) == (0, outcome), done.stderr
    kept = [
        file for folder in ("queue", "control", "results") for file in (recipe.directory / folder).iterdir()
    ]
    assert kept
    assert not any(good in file.read_text("utf-8") for file in (*kept, recipe.directory / "output"))
