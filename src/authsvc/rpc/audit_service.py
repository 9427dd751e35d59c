"""AuditService: each RPC calls a use case between two conversions."""

from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from authsvc.audit import Audit
from authsvc.model.audit_event import Action, AuditQuery, ChainedEvent
from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.rpc.answer_size import shown
from authsvc.rpc.convert import instant, timestamp
from authsvc.v1 import audit_service_pb2 as pb

_DEFAULT_PAGE_SIZE = 50
_ACTIONS = {action.value: pb.AuditAction.Value(f"AUDIT_ACTION_{action.value}") for action in Action}
_NAMES = {number: name for name, number in _ACTIONS.items()}
_TYPES = {kind.value: pb.ActorType.Value(f"ACTOR_TYPE_{kind.name}") for kind in CredentialKind}


class AuditService:
    """Serves `authsvc.v1.AuditService`; the comments in the proto are its specification."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["AuditService"]

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def ListAuditEvents(
        self, caller: Caller, request: pb.ListAuditEventsRequest
    ) -> pb.ListAuditEventsResponse:
        """List events of the audit log."""
        page = await self._audit.list(
            caller,
            _query(request),
            page_size=request.page_size or _DEFAULT_PAGE_SIZE,
            page_token=request.page_token,
        )
        events, next_page_token = await shown(page, _message)
        return pb.ListAuditEventsResponse(events=events, next_page_token=next_page_token)


def _query(request: pb.ListAuditEventsRequest) -> AuditQuery:
    asked = request.filter
    return AuditQuery(
        request.owner_id,
        actions=tuple(sorted(_NAMES[action] for action in asked.actions)),
        actor_id=asked.actor_id,
        target_id=asked.target_id,
        time_after=instant(asked.time_after) if asked.HasField("time_after") else None,
        time_before=instant(asked.time_before) if asked.HasField("time_before") else None,
        after_position=asked.after_position,
    )


def _message(chained: ChainedEvent) -> pb.AuditEvent:
    event, link, previous_hash = chained
    return pb.AuditEvent(
        event_id=event.event_id,
        event_time=timestamp(event.event_time),
        action=_ACTIONS.get(event.action, pb.AUDIT_ACTION_UNSPECIFIED),
        actor_id=event.actor_id,
        owner_id=event.owner_id,
        target_id=event.target_id,
        client_ip=event.client_ip,
        details=event.details,
        request_id=event.request_id,
        actor_owner_id=event.actor_owner_id,
        actor_type=_TYPES.get(event.actor_type, pb.ACTOR_TYPE_UNSPECIFIED),
        position=link.position,
        hash=link.hash,
        previous_hash=previous_hash,
    )
