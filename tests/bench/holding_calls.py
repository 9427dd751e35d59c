"""What a caller waits for a verification: in its own process, by the lane and by grpcio, one at a time.

One process serves by both transports, and has the key in memory. A side's figure is the median over all its
calls of the time between the call and the verdict. h2load's is that of a client that costs almost nothing.
"""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import median

from pydantic import SecretStr

from authsvc import app
from authsvc.client import AuthClient
from authsvc.config.settings import load_settings
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.new_key import NewKey
from authsvc.v1 import key_service_pb2 as pb
from tests.bench import server
from tests.bench.bench import say
from tests.bench.h2load import Load, hold_counts
from tests.bench.rounds import in_turns, ratio
from tests.bench.server import VERIFY
from tests.bench.table import Row

_PART = "holders"
_IP = "192.0.2.7"
_SCOPE = "orders:read"
_NOW, _HELD = "verify_key_now", "verify_key from memory"
_REMOTE = {
    "lane": "verify_key by the lane",
    "grpcio": "verify_key by grpcio",
    "h2load lane": "VerifyKey by h2load and the lane",
    "h2load grpcio": "VerifyKey by h2load and grpcio",
}


async def measure(database_url: str, *, quick: bool) -> list[Row]:
    """Return the rows about one verification at a time."""
    rounds, calls = (3, 200) if quick else (7, 1_000)
    settings = load_settings(listen="127.0.0.1:0", database_url=SecretStr(database_url), scopes="*")
    async with app.administering(settings) as keys:
        scopes = ("holders:follow", "keys:verify", _SCOPE)
        _, own = await keys.create(BOOTSTRAP, NewKey(owner_id="authsvc", display_name="own", scopes=scopes))
        _, key = await keys.create(BOOTSTRAP, NewKey(owner_id="acme", display_name="key", scopes=(_SCOPE,)))

    def client(address: str, *, hold: bool = False) -> AuthClient:
        return AuthClient(address, key=own.text, tls=None, connections=1, deadline=10.0, hold=hold)

    request = pb.VerifyKeyRequest(key_string=key.text, required_scopes=[_SCOPE], client_ip=_IP)
    async with (
        server.running(database_url) as process,
        # Each sub-lease counts a verdict on the client's own key, so it has a service of its own.
        server.running(database_url) as followed,
        client(followed.address, hold=True) as holding,
        client(process.address) as by_lane,
        client(process.grpcio_address) as by_grpcio,
    ):
        say(f"holders: {rounds} rounds of {calls} verifications, one at a time, here and by both transports")
        while not holding.hold_state.size:
            assert await holding.verify_key(key.text, _SCOPE, _IP)
        times: dict[str, list[float]] = {}

        def loads(address: str) -> Callable[[], Awaitable[list[float]]]:
            load = Load(address, VERIFY, request.SerializeToString(), own.text, (1, 1))
            return partial(load.durations, calls)

        def awaits(one: AuthClient) -> Callable[[], Awaitable[list[float]]]:
            return partial(_awaited, partial(one.verify_key, key.text, _SCOPE, _IP), calls)

        sides: dict[str, Callable[[], Awaitable[list[float]]]] = {
            _NOW: partial(_called, partial(holding.verify_key_now, key.text, _SCOPE, _IP), calls),
            _HELD: awaits(holding),
            "lane": awaits(by_lane),
            "grpcio": awaits(by_grpcio),
            "h2load lane": loads(process.address),
            "h2load grpcio": loads(process.grpcio_address),
        }

        async def turn(name: str) -> float:
            taken = await sides[name]()
            times.setdefault(name, []).extend(taken)
            return median(taken)

        for side in sides.values():
            await side()
        asked, before = holding.hold_state.asked, await process.counts()
        medians = await in_turns({name: partial(turn, name) for name in sides}, rounds)
        after = await process.counts()
        # Neither of the sides in this process was answered by the service.
        hold_counts(before, after, "authsvc_verdicts_total VALID", rounds * calls * len(_REMOTE) * 2)
        assert holding.hold_state.asked == asked

    def row(name: str, what: str) -> Row:
        shown, here = median(times[name]) * 1e6, median(times[_NOW]) * 1e6
        return Row(
            _PART,
            f"{what}, one at a time, median, against {_NOW}",
            f"{shown:.1f} µs",
            f"{here:.1f} µs",
            ratio(medians[name], medians[_NOW]),
        )

    return [row(_HELD, _HELD), *(row(name, what) for name, what in _REMOTE.items())]


async def _called(verify: Callable[[], object], calls: int) -> list[float]:
    taken = []
    for _ in range(calls):
        begun = time.perf_counter()
        verdict = verify()
        taken.append(time.perf_counter() - begun)
        assert verdict
    return taken


async def _awaited(verify: Callable[[], Awaitable[object]], calls: int) -> list[float]:
    taken = []
    for _ in range(calls):
        begun = time.perf_counter()
        verdict = await verify()
        taken.append(time.perf_counter() - begun)
        assert verdict
    return taken
