"""Runs the cases of clients/vectors.json with `authsvc.client`."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from authsvc.client import AuthClient, Refused, Tls, Unavailable, Verdict
from tests.clients import python_guards

_UNHURRIED_SECONDS = 30.0
# The control is on this machine, whatever proxy the environment names.
_opener = build_opener(ProxyHandler({}))


async def run(name: str, environment: Mapping[str, str], directory: Path) -> list[str]:
    """Run a case; return what is wrong. Key files are in the directory."""
    problems: list[str] = []
    case = await _control(environment, "begin", case=name)
    uses_guards = any(step.get("call", {}).get("method") == "guard" for step in case["steps"])
    for guard in ("grpc", "http") if uses_guards else ("",):
        if guard == "http":
            case = await _control(environment, "begin", case=name)
        found = await Run(case, environment, directory, guard).problems()
        problems += [f"{guard}: {text}" if guard else text for text in found]
    return problems


class Run:
    """One run of a case, with guards of one kind if it has any."""

    def __init__(
        self, case: Mapping[str, Any], environment: Mapping[str, str], directory: Path, guard: str
    ) -> None:
        self._case = case
        self._environment = environment
        self._file = directory / "authsvc.key"
        self._guard = guard

    async def problems(self) -> list[str]:
        """Do the steps; return what is wrong."""
        try:
            client = self._client(self._case.get("client", {}))
        except ValueError:
            return await self._after_an_invalid_client()
        problems = []
        async with client:
            for number, step in enumerate(self._case["steps"]):
                problems += [f"step {number}: {text}" for text in await self._step(client, number, step)]
        return problems

    def _client(self, given: Mapping[str, Any]) -> AuthClient:
        is_real = "service" in self._case["given"]
        key: str | Path | None = given.get("key", self._environment["AUTHSVC_KEY"] if is_real else "own")
        if "key_file" in given:
            self._write(given["key_file"])
            key = self._file
        address = self._environment["AUTHSVC_SERVICE" if is_real else "AUTHSVC_SCRIPTED"]
        options: dict[str, Any] = {name: given[name] for name in ("attempts",) if name in given}
        deadline = given.get("deadline_seconds", _UNHURRIED_SECONDS)
        if deadline != "default":
            options["deadline"] = deadline
        tls = Tls() if given.get("tls") else None
        return AuthClient(given.get("address", address), key=key, tls=tls, **options)

    def _write(self, text: str | None) -> None:
        if text is None:
            self._file.unlink(missing_ok=True)
        else:
            self._file.write_bytes(text.encode())

    async def _after_an_invalid_client(self) -> list[str]:
        [step] = self._case["steps"]
        found = _differences({"error": "Invalid"}, step["expect"])
        return found + (await self._check(0) if "sent" in step else [])

    async def _step(self, client: AuthClient, number: int, step: Mapping[str, Any]) -> list[str]:
        if "write_key_file" in step:
            self._write(step["write_key_file"])
            return []
        if "do" in step:
            await _control(self._environment, "do", case=self._case["name"], step=number)
            return []
        call, expected = step["call"], step["expect"]
        if call["method"] == "guard":
            if not expected["admitted"] and self._guard not in expected:
                return []
            problems = await python_guards.problems(self._guard, client, call, expected)
        else:
            problems = _differences(await _outcome(client, call), expected)
        return problems + (await self._check(number) if "sent" in step else [])

    async def _check(self, number: int) -> list[str]:
        answer = await _control(self._environment, "check", case=self._case["name"], step=number)
        problems: list[str] = answer["problems"]
        return problems


async def _control(environment: Mapping[str, str], path: str, **query: object) -> Any:
    """Ask the control, in a thread: the real service may run in this event loop."""
    request = Request(f"{environment['AUTHSVC_CONTROL']}/{path}?{urlencode(query)}", method="POST")  # noqa: S310

    def ask() -> Any:
        try:
            with _opener.open(request) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise AssertionError(error.read().decode()) from None

    return await asyncio.to_thread(ask)


async def _outcome(client: AuthClient, call: Mapping[str, Any]) -> dict[str, Any]:
    """Make a call; return the verdict or the error, in the names of the cases."""
    names = ("required_scopes", "any_of_scopes", "client_ip", "user_agent", "cost")
    options = {name: call[name] for name in names if name in call}
    if "deadline_seconds" in call:
        options["deadline"] = call["deadline_seconds"]
    try:
        match call["method"]:
            case "verify_key":
                return _shown(await client.verify_key(call["credential"], **options))
            case "verify_session":
                return _shown(await client.verify_session(call["credential"], **options))
            case "verify_token":
                return _shown(await client.verify_token(call["credential"], call["audience"], **options))
    except ValueError:
        return {"error": "Invalid"}
    except (Unavailable, Refused) as error:
        return {
            "error": type(error).__name__,
            "code": error.code.name,
            "reason": error.reason,
            "retry_after_seconds": error.retry_after if isinstance(error, Unavailable) else None,
        }
    raise AssertionError(f"no such method: {call['method']}")


def _shown(verdict: Verdict) -> dict[str, Any]:
    limits = [
        {
            "name": limit.name,
            "limit": limit.limit,
            "period_seconds": limit.period,
            "remaining": limit.remaining,
            "reset_seconds": limit.reset,
            "of_owner": limit.of_owner,
        }
        for limit in verdict.rate_limits
    ]
    return {
        **asdict(verdict),
        "valid": verdict.valid,
        "code": verdict.code.name,
        "type": verdict.type.name,
        "scopes": list(verdict.scopes),
        "rate_limits": limits,
        "retry_after_seconds": verdict.retry_after,
    }


def _differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return how the outcome differs in what is expected."""
    problems = []
    for name, value in expected.items():
        if name == "retry_after_at_least_seconds":
            if (found["retry_after_seconds"] or 0) < value:
                problems.append(f"retry_after is {found['retry_after_seconds']}, less than {value}")
            continue
        shown = found.get(name, "missing")
        wanted = datetime.fromisoformat(value).astimezone(UTC) if name == "expire_time" else value
        if shown != wanted:
            problems.append(f"{name} is {shown!r} instead of {wanted!r}")
    return problems
