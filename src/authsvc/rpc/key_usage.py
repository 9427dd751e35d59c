"""The RPCs of KeyService that show how keys are used."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Protocol

from authsvc.keys import Keys
from authsvc.keys.usage import Names, Users
from authsvc.model.allowed_networks import checked_networks
from authsvc.model.caller import Caller
from authsvc.model.key_usage import UsageGroup, UsageQuery, UsageRow, checked_days
from authsvc.model.network_preview import NetworkRefusal
from authsvc.rpc.answer_size import shown
from authsvc.rpc.convert import key_message, set_timestamp, timestamp
from authsvc.v1 import key_service_pb2 as pb

_DEFAULT_PAGE_SIZE = 50
_GROUPS = {pb.UsageGroup.Value(f"USAGE_GROUP_{group.name}"): group for group in UsageGroup}
_REFUSALS = {each: pb.NetworkRefusal.Value(f"NETWORK_REFUSAL_{each.value}") for each in NetworkRefusal}


class KeyUsageRpcs(Protocol):
    """Serves them; the comments in the proto are their specification."""

    _keys: Keys
    _clock: Callable[[], datetime]

    async def GetKeyUsage(self, caller: Caller, request: pb.GetKeyUsageRequest) -> pb.GetKeyUsageResponse:
        """List the uses of a key."""
        days = checked_days(request.first_day, request.last_day, self._clock())
        groups = frozenset(_GROUPS[number] for number in request.group_by) or frozenset(UsageGroup)
        page, names, total = await self._keys.usage(
            caller,
            UsageQuery(request.key_id, *days, groups),
            page_size=request.page_size or _DEFAULT_PAGE_SIZE,
            page_token=request.page_token,
        )
        rows, next_page_token = await shown(page, lambda row: _usage(row, names))
        return pb.GetKeyUsageResponse(usage=rows, next_page_token=next_page_token, total_uses=total)

    async def PreviewRevocation(
        self, caller: Caller, request: pb.PreviewRevocationRequest
    ) -> pb.PreviewRevocationResponse:
        """Show who would be cut off."""
        preview = await self._keys.preview_revocation(caller, request.key_id, request.days)
        successor = preview.successor
        response = pb.PreviewRevocationResponse(
            key=key_message(preview.key, self._clock()),
            users=_users(preview.users),
            more_users=preview.users.more,
            successor_key_id=preview.key.rotated_to_key_id,
            successor_last_use_time=timestamp(successor.last_use_time if successor else None),
            etag=preview.etag,
        )
        if preview.made is not None:
            response.created_keys, response.created_sessions = preview.made
        return response

    async def GetRotationStatus(
        self, caller: Caller, request: pb.GetRotationStatusRequest
    ) -> pb.GetRotationStatusResponse:
        """Show how far a rotation is."""
        status, now = await self._keys.rotation_status(caller, request.key_id), self._clock()
        old, new, end = status.old, status.new, status.end
        response = pb.GetRotationStatusResponse(
            old_key=None if old is None else key_message(old, now),
            new_key=None if new is None else key_message(new, now),
            rotate_time=timestamp(status.rotate_time),
            grace_end_time=timestamp(old.revoke_time if old else None),
            earliest_grace_end_time=timestamp(status.earliest_end),
            old_key_users=_users(status.users),
            more_old_key_users=status.users.more,
        )
        if end is not None and end.applies(old):
            response.end_grace_when_unused_for.FromTimedelta(end.when_unused_for)
        return response

    async def PreviewAllowedNetworks(
        self, caller: Caller, request: pb.PreviewAllowedNetworksRequest
    ) -> pb.PreviewAllowedNetworksResponse:
        """Show which networks would be refused."""
        preview = await self._keys.preview_networks(
            caller,
            checked_networks(request.allowed_networks, "allowed_networks"),
            key_id=request.key_id,
            owner_id=request.owner_id,
            days=request.days,
        )
        response = pb.PreviewAllowedNetworksResponse(
            more_networks=preview.more, allowed_uses=preview.allowed_uses
        )
        for use, refusal in preview.refused:
            one = response.refused_networks.add(
                network=use.network, refusal=_REFUSALS[refusal], uses=use.uses, keys=use.keys
            )
            set_timestamp(one.last_use_time, use.last_use_time)
        return response


def _usage(row: UsageRow, names: Names) -> pb.KeyUsage:
    return pb.KeyUsage(
        day=row.day.isoformat() if row.day else "",
        verifier_id=row.verifier_id,
        verifier_name=names.get(row.verifier_id, ""),
        network=row.network,
        program=row.program,
        uses=row.uses,
        last_use_time=timestamp(row.last_use_time),
    )


def _users(users: Users) -> Iterable[pb.KeyUsage]:
    return [_usage(row, users.names) for row in users.rows]
