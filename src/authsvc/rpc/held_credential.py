"""A credential as a client gets it that holds it."""

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from authsvc.model.activity import Activity
from authsvc.model.credential import FOREVER, Credential, CredentialKind
from authsvc.rpc.convert import set_timestamp
from authsvc.v1 import holder_service_pb2 as pb

KINDS = {
    pb.HOLDER_CREDENTIAL_KIND_KEY: CredentialKind.KEY,
    pb.HOLDER_CREDENTIAL_KIND_SESSION: CredentialKind.SESSION,
}
# More than any client says that it knows.
_UNKNOWN_TO_ALL = 1 << 32
KIND_NUMBERS = {kind: number for number, kind in KINDS.items()}


def rules_for(credential: Credential) -> int:
    """Return which rules a client has to know to judge a credential: `rules` of `Join`.

    No client knows those of rate limits: it asks for each verification, so that all take from one budget.
    """
    if credential.limits is not None:
        return _UNKNOWN_TO_ALL
    return 0 if credential.networks is None and credential.disabled_until in (None, FOREVER) else 1


def held_credential(credential: Credential) -> pb.HeldCredential:
    """Return a credential as a message."""
    message = pb.HeldCredential(
        credential_id=credential.credential_id,
        owner_id=credential.owner_id,
        kind=KIND_NUMBERS[credential.kind],
        scopes=credential.scopes,
        disabled=credential.disabled_until is not None,
        # As in the answers of VerifyKey and VerifySession.
        annotations=credential.annotations if credential.activity is None else {},
    )
    if credential.expire_time is not None:
        set_timestamp(message.expire_time, credential.expire_time)
    if credential.revoke_time is not None:
        set_timestamp(message.revoke_time, credential.revoke_time)
    if credential.disabled_until not in (None, FOREVER):
        set_timestamp(message.disabled_until, credential.disabled_until)
    if credential.networks is not None:
        message.allowed_networks.extend(credential.networks.of_key)
        message.owner_networks.extend(credential.networks.of_owner)
    if credential.activity is not None:
        _set_activity(message.activity, credential.activity)
    return message


def _set_activity(message: pb.HeldCredential.Activity, activity: Activity) -> None:
    set_timestamp(message.last_activity_time, activity.last)
    set_timestamp(message.record_time, activity.recorded)
    message.idle_timeout.FromTimedelta(activity.idle_timeout)
    message.over = activity.is_over


def set_seconds(duration: Duration, seconds: float) -> None:
    """Set a duration to some seconds, rounded down to microseconds."""
    duration.FromTimedelta(timedelta(microseconds=int(seconds * 1_000_000)))
