"""How keys are used, on the pages that show and change them."""

from collections.abc import Iterable
from contextlib import suppress

import grpc

from authsvc.v1 import key_service_pb2 as pb
from authsvc.web.console.networks import Networks
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.problem import Problem

#: Of networks by which some of those that use keys would be refused, which has to be confirmed.
NETWORKS_REFUSED = "NETWORKS_REFUSED"
#: The box by which it is, with the networks that it is about.
CONFIRMED = "networks_confirmed"
#: The fields with the places that a form has shown.
SEEN = "seen"
#: How many rows of uses a page shows.
SHOWN_ROWS = 20
_GROUPS = (pb.USAGE_GROUP_VERIFIER, pb.USAGE_GROUP_NETWORK, pb.USAGE_GROUP_PROGRAM)


async def usage_of(request: PageRequest, key_id: str) -> pb.GetKeyUsageResponse:
    """Return who has used a key in the last 30 days. Raises Problem."""
    asked = pb.GetKeyUsageRequest(key_id=key_id, group_by=_GROUPS, page_size=SHOWN_ROWS)
    return await request.call("KeyService/GetKeyUsage", asked, pb.GetKeyUsageResponse)


def new_places(request: PageRequest, rows: Iterable[pb.KeyUsage]) -> set[str]:
    """Return the places of uses that were not on the page that the form was on."""
    return set(map(place_of, rows)).difference(request.form.all(SEEN))


def place_of(row: pb.KeyUsage) -> str:
    """Return who used a key from where, as a form repeats what it has shown."""
    return f"{row.verifier_id} {row.network}"


async def preview_of(request: PageRequest, key_id: str) -> pb.PreviewRevocationResponse:
    """Return who would be cut off by the revocation of a key. Raises Problem."""
    asked = pb.PreviewRevocationRequest(key_id=key_id)
    return await request.call("KeyService/PreviewRevocation", asked, pb.PreviewRevocationResponse)


async def refused_networks(
    request: PageRequest, networks: Networks, key_id: str = "", owner_id: str = ""
) -> list[pb.RefusedNetwork]:
    """Return the networks of recent uses that these would refuse, for `key_id` or `owner_id`.

    Empty if the networks are wrong, or the caller may not know.
    """
    if request.may("keys:read"):
        asked = pb.PreviewAllowedNetworksRequest(
            allowed_networks=networks.values, key_id=key_id, owner_id=owner_id
        )
        with suppress(Problem):
            found = await request.call(
                "KeyService/PreviewAllowedNetworks", asked, pb.PreviewAllowedNetworksResponse
            )
            return list(found.refused_networks[:SHOWN_ROWS])
    return []


async def require_confirmation(
    request: PageRequest, networks: Networks, key_id: str = "", owner_id: str = ""
) -> None:
    """Raise Problem (NETWORKS_REFUSED) if recent uses would be refused, and exactly that is not confirmed."""
    if request.form(CONFIRMED) != confirmation(networks) and await refused_networks(
        request, networks, key_id=key_id, owner_id=owner_id
    ):
        raise Problem(grpc.StatusCode.INVALID_ARGUMENT, NETWORKS_REFUSED, fields={CONFIRMED: ""})


async def shown_refusals(
    request: PageRequest, problem: Problem | None, networks: Networks, key_id: str = "", owner_id: str = ""
) -> list[pb.RefusedNetwork]:
    """Return the networks to show with a form that has to be confirmed; none for other forms."""
    if problem is None or problem.reason != NETWORKS_REFUSED:
        return []
    return await refused_networks(request, networks, key_id=key_id, owner_id=owner_id)


def confirmation(networks: Networks) -> str:
    """Return the value of the box that confirms networks."""
    return ",".join(networks.values)
