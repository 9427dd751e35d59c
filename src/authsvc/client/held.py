"""The messages about credentials that are held: what was sent of one, and what is reported of its uses."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.model.activity import Activity
from authsvc.model.allowed_networks import AllowedNetworks
from authsvc.model.credential import FOREVER, Credential, CredentialKind
from authsvc.model.key_use import KeyUse
from authsvc.model.use import Use
from authsvc.v1 import holder_service_pb2 as pb
from authsvc.v1.session_service_pb2 import ClientHints

# Only these may be held. Another kind, of a newer service, has rules that this client does not know.
KINDS = {
    pb.HOLDER_CREDENTIAL_KIND_KEY: CredentialKind.KEY,
    pb.HOLDER_CREDENTIAL_KIND_SESSION: CredentialKind.SESSION,
}
#: The rules by which this client judges: `rules` of `Join`.
RULES = 1
_LONGEST_TIMEOUT_SECONDS = 100 * 366 * 86_400.0
NUMBERS = {kind: number for number, kind in KINDS.items()}


def credential_of(message: pb.HeldCredential) -> Credential:
    """Return the credential in a message. Raise ValueError if it is not one that can be judged here."""
    kind = KINDS.get(message.kind)
    if kind is None or not message.credential_id or not message.owner_id:
        raise ValueError("a credential without its kind, its id or its owner")
    if (kind is CredentialKind.SESSION) is not message.HasField("activity"):
        raise ValueError("a session without its activity, or a key with one")
    return Credential(
        message.credential_id,
        message.owner_id,
        tuple(message.scopes),
        instant_of(message.expire_time) if message.HasField("expire_time") else None,
        instant_of(message.revoke_time) if message.HasField("revoke_time") else None,
        dict(message.annotations),
        kind,
        _activity(message.activity) if kind is CredentialKind.SESSION else None,
        _disabled_until(message),
        _networks(message),
    )


def _disabled_until(message: pb.HeldCredential) -> datetime | None:
    if not message.disabled:
        return None
    return instant_of(message.disabled_until) if message.HasField("disabled_until") else FOREVER


def _networks(message: pb.HeldCredential) -> AllowedNetworks | None:
    if not message.allowed_networks and not message.owner_networks:
        return None
    return AllowedNetworks(message.allowed_networks, message.owner_networks)


def instant_of(timestamp: Timestamp) -> datetime:
    """Return the time in a message, in UTC. Raise ValueError if it is not in the calendar."""
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from None


def seconds_of(duration: Duration) -> float:
    """Return a length in seconds, which may be absurd."""
    return duration.seconds + duration.nanos / 1e9


def uses_message(uses: Sequence[KeyUse | Use]) -> pb.FollowRequest.Uses:
    """Return the report of some uses."""
    message = pb.FollowRequest.Uses()
    for use in uses:
        if isinstance(use, KeyUse):
            counted = message.uses.add(
                credential_id=use.key_id, client_ip=use.client_ip, user_agent=use.program, uses=use.uses
            )
            counted.use_time.FromDatetime(use.last_use_time)
            continue
        one = message.uses.add(
            credential_id=use.credential_id, client_ip=use.client_ip, user_agent=use.user_agent
        )
        one.use_time.FromDatetime(use.time)
        if any(use.client_hints):
            one.client_hints.CopyFrom(ClientHints(**use.client_hints.as_dict()))
    return message


def _activity(message: pb.HeldCredential.Activity) -> Activity:
    """Return an activity that is certain for as long as the recorded one says."""
    idle_timeout = seconds_of(message.idle_timeout)
    if not message.HasField("record_time") or not 0 < idle_timeout <= _LONGEST_TIMEOUT_SECONDS:
        raise ValueError("an activity without its time or with an impossible timeout")
    activity = Activity(instant_of(message.record_time), timedelta(seconds=idle_timeout))
    if message.HasField("last_activity_time"):
        activity.note(instant_of(message.last_activity_time))
    if message.over:
        activity.end()
    return activity
