"""SessionService: each RPC calls a use case between two conversions."""

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from authsvc.model.activity import Activity
from authsvc.model.address import normalized
from authsvc.model.caller import Caller
from authsvc.model.client_hints import NO_HINTS, ClientHints
from authsvc.model.credential import Credential, CredentialKind
from authsvc.model.session import NewSession, Session, SessionState
from authsvc.model.session_query import SessionQuery
from authsvc.model.verdict import Verdict, VerdictCode
from authsvc.rpc.answer_size import shown
from authsvc.rpc.convert import CODES, presented, set_timestamp, timestamp
from authsvc.sessions import Sessions
from authsvc.sessions.device import describe
from authsvc.sessions.location_record import NOWHERE
from authsvc.sessions.locations import Locations
from authsvc.v1 import resources_pb2
from authsvc.v1 import session_service_pb2 as pb
from authsvc.verify.verifier import Question, Verifier

_DEFAULT_PAGE_SIZE = 50
_STATES = {state: resources_pb2.SessionState.Value(f"SESSION_STATE_{state.value}") for state in SessionState}


class SessionService:
    """Serves `authsvc.v1.SessionService`; the comments in the proto are its specification."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["SessionService"]

    def __init__(
        self, sessions: Sessions, verifier: Verifier, locations: Locations, clock: Callable[[], datetime]
    ) -> None:
        self._sessions = sessions
        self._verifier = verifier
        self._locations = locations
        self._clock = clock
        self.recalls = {"VerifySession": self._recall}

    async def CreateSession(
        self, caller: Caller, request: pb.CreateSessionRequest
    ) -> pb.CreateSessionResponse:
        """Open a session."""
        new = NewSession(
            owner_id=request.owner_id,
            user_agent=request.user_agent,
            ip_address=request.ip_address,
            client_hints=ClientHints.of_message(request.client_hints)
            if request.HasField("client_hints")
            else NO_HINTS,
            scopes=tuple(request.scopes),
            idle_timeout=request.idle_timeout.ToTimedelta() if request.HasField("idle_timeout") else None,
            lifetime=request.lifetime.ToTimedelta() if request.HasField("lifetime") else None,
            annotations=dict(request.annotations),
        )
        session, minted = await self._sessions.create(caller, new)
        return pb.CreateSessionResponse(session=self._message(session), session_token=minted.text)

    async def VerifySession(
        self, caller: Caller, request: pb.VerifySessionRequest
    ) -> pb.VerifySessionResponse:
        """Verify a session token."""
        question, token = _question(caller, request), presented(request.session_token)
        return _verdict_message(await self._verifier.verify(question, token))

    def _recall(self, caller: Caller, request: pb.VerifySessionRequest) -> bytes | None:
        verdict = self._verifier.recall(_question(caller, request), presented(request.session_token))
        return None if verdict is None else _verdict_answer(verdict)

    async def GetSession(self, caller: Caller, request: pb.GetSessionRequest) -> resources_pb2.Session:
        """Show a session."""
        session = await self._sessions.get(caller, request.session_id)
        return self._message(session, current=session.session_id == caller.credential_id)

    async def ListSessions(self, caller: Caller, request: pb.ListSessionsRequest) -> pb.ListSessionsResponse:
        """List the devices that an owner is signed in on."""
        page = await self._sessions.list(
            caller,
            SessionQuery(request.owner_id, request.include_ended),
            page_size=request.page_size or _DEFAULT_PAGE_SIZE,
            page_token=request.page_token,
        )
        current = request.current_session_id or caller.credential_id
        sessions, next_page_token = await shown(
            page, lambda session: self._message(session, current=session.session_id == current)
        )
        return pb.ListSessionsResponse(sessions=sessions, next_page_token=next_page_token)

    async def RevokeSession(self, caller: Caller, request: pb.RevokeSessionRequest) -> resources_pb2.Session:
        """Log out one device."""
        return self._message(await self._sessions.revoke(caller, request.session_id))

    async def RevokeAllSessions(
        self, caller: Caller, request: pb.RevokeAllSessionsRequest
    ) -> pb.RevokeAllSessionsResponse:
        """Log out all devices of an owner."""
        ended = await self._sessions.revoke_all(
            caller, request.owner_id, except_session_id=request.except_session_id
        )
        return pb.RevokeAllSessionsResponse(
            revoked_count=ended.active, revoked_count_is_lower_bound=ended.is_lower_bound
        )

    def _message(self, session: Session, *, current: bool = False) -> resources_pb2.Session:
        device = describe(session.user_agent, session.client_hints)
        location = self._locations.find(session.ip_address)
        message = resources_pb2.Session(
            session_id=session.session_id,
            owner_id=session.owner_id,
            device=resources_pb2.Device(
                browser=device.browser,
                browser_version=device.browser_version,
                os=device.os,
                os_version=device.os_version,
                device_type=device.device_type,
                user_agent=device.user_agent,
                model=device.model,
            ),
            # Earlier releases kept other spellings.
            ip_address=normalized(session.ip_address),
            scopes=session.scopes,
            state=_STATES[session.state(self._clock())],
            create_time=timestamp(session.create_time),
            last_activity_time=timestamp(session.last_activity_time),
            expire_time=timestamp(session.expire_time),
            revoke_time=timestamp(session.revoke_time),
            current=current,
            annotations=session.annotations,
            latest_expire_time=timestamp(session.latest_expire_time),
            key_prefix=session.key_prefix,
            creator_id=session.creator_id,
            revoker_id=session.revoker_id,
        )
        message.idle_timeout.FromTimedelta(session.idle_timeout)
        if location != NOWHERE:
            message.location.city = location.city
            message.location.region = location.region
            message.location.country_code = location.country_code
        return message


def _question(caller: Caller, request: pb.VerifySessionRequest) -> Question:
    return Question(
        CredentialKind.SESSION,
        caller,
        request.required_scopes,
        normalized(request.client_ip),
        request.user_agent,
        ClientHints.of_message(request.client_hints) if request.HasField("client_hints") else NO_HINTS,
        request.any_of_scopes,
    )


def _verdict_answer(verdict: Verdict) -> bytes:
    """Return a verdict as a serialized message. Most of a valid one is kept beside the session."""
    code, credential, *_ = verdict
    if code is not VerdictCode.VALID or credential is None or credential.activity is None:
        return _verdict_message(verdict).SerializeToString()
    if not (answer := credential.answer):
        answer = _verdict_message(verdict, with_end=False).SerializeToString()
        credential.keep_answer(answer)
    # Fields may come in any order, and those of a message in several pieces.
    set_timestamp(_END.expire_time, _end(credential, credential.activity))
    return answer + _END.SerializeToString()


def _end(credential: Credential, activity: Activity) -> datetime:
    """Return when a session ends unless there is more activity."""
    if credential.expire_time is None:
        return activity.idle_end
    return min(activity.idle_end, credential.expire_time)


# Used again and again: to make a message costs more than to set its fields.
_END = pb.VerifySessionResponse()


def _verdict_message(verdict: Verdict, *, with_end: bool = True) -> pb.VerifySessionResponse:
    """Return a verdict as a message, with the time at which the session ends, or without."""
    code, credential, *_ = verdict
    if credential is None or credential.activity is None:
        return pb.VerifySessionResponse(code=CODES[code])
    message = pb.VerifySessionResponse(
        valid=code is VerdictCode.VALID,
        code=CODES[code],
        session_id=credential.credential_id,
        owner_id=credential.owner_id,
        scopes=credential.scopes,
    )
    if with_end:
        set_timestamp(message.expire_time, _end(credential, credential.activity))
    return message
