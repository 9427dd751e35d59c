"""`preview-networks` of `authsvc keys` and `authsvc policies`: what other networks would refuse."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from authsvc.cli.call import notes, output, when
from authsvc.cli.minting import service
from authsvc.cli.table import table
from authsvc.v1 import key_service_pb2 as pb

_REFUSED = {
    pb.NETWORK_REFUSAL_WHOLE: "yes",
    pb.NETWORK_REFUSAL_PART: "in part",
    pb.NETWORK_REFUSAL_UNKNOWN: "not known",
}


async def of_key(
    key_id: str,
    *,
    network: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    days: int = 0,
) -> None:
    """Show which networks of recent uses a key could not be used from any more. Nothing is changed.

    Parameters
    ----------
    key_id
        The id of the key, as shown by `authsvc keys list`.
    network
        A network that the key would be allowed to be used from; repeat for several.
    days
        How many days of uses to look at, at most 400; by default 30.
    """
    await _preview(pb.PreviewAllowedNetworksRequest(key_id=key_id, allowed_networks=network, days=days))


async def of_owner(owner_id: str, *, allowed_networks: str, days: int = 0) -> None:
    """Show which networks of recent uses the keys of an owner could not be used from. Nothing is changed.

    Parameters
    ----------
    owner_id
        The owner whose policy would be updated.
    allowed_networks
        The networks that the policy would have, comma-separated; "" for any.
    days
        How many days of uses to look at, at most 400; by default 30.
    """
    networks = [each.strip() for each in allowed_networks.split(",") if each.strip()]
    await _preview(pb.PreviewAllowedNetworksRequest(owner_id=owner_id, allowed_networks=networks, days=days))


async def _preview(request: pb.PreviewAllowedNetworksRequest) -> None:
    async with service() as (stub, metadata):
        found = await stub.PreviewAllowedNetworks(request, metadata=metadata)
    if found.refused_networks:
        output.print(_table(found.refused_networks))
    else:
        output.print("No network that was used in these days would be refused.", highlight=False)
    if found.more_networks:
        notes.print("There are more networks. Only the latest are looked at.")
    output.print(f"Uses from networks that would be allowed: {found.allowed_uses}", highlight=False)


def _table(networks: Sequence[pb.RefusedNetwork]) -> object:
    return table(
        ("network", "refused", "uses", "keys", "last use"),
        (
            (
                each.network or "not given",
                _REFUSED.get(each.refusal, "not known"),
                f"{each.uses}",
                f"{each.keys}",
                when(each.last_use_time, to_seconds=True),
            )
            for each in networks
        ),
        unbroken=("network", "uses", "keys"),
    )
