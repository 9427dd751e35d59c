"""What is asked about a presented credential, from the arguments of a verification."""

from authsvc.client import client_info
from authsvc.client.scopes import Scopes, scopes_of
from authsvc.client.verdict import CredentialType, Verdict, VerdictCode
from authsvc.model.client_hints import ClientHints
from authsvc.model.credential import CredentialKind
from authsvc.model.memo import remembered
from authsvc.v1 import session_service_pb2 as pb
from authsvc.v1.key_service_pb2 import VerifyKeyRequest
from authsvc.verify.question import Question

_TYPES = {kind: CredentialType[kind.name] for kind in CredentialKind}


def about_key(
    required_scopes: Scopes, client_ip: str, any_of_scopes: Scopes = (), user_agent: str = ""
) -> Question:
    """Return the question about a key. Raise ValueError for an invalid scope."""
    if user_agent:
        agent = client_info.user_agent(user_agent)
        return about_key(required_scopes, client_ip, any_of_scopes)._replace(user_agent=agent)
    if any_of_scopes:
        return about_key(required_scopes, client_ip)._replace(any_of_scopes=scopes_of(any_of_scopes))
    scopes = (required_scopes,) if isinstance(required_scopes, str) else tuple(required_scopes)
    try:
        return _about_key(client_ip, *scopes)
    except TypeError:  # a scope that is no text
        return Question(CredentialKind.KEY, None, scopes_of(scopes))


@remembered(max_entries=4096, max_length=512)  # to check the arguments takes as long as a verification
def _about_key(client_ip: str, *scopes: str) -> Question:
    return Question(CredentialKind.KEY, None, scopes_of(scopes), client_info.address(client_ip))


def about_session(
    required_scopes: Scopes,
    client_ip: str,
    user_agent: str,
    hints: pb.ClientHints | None,
    any_of_scopes: Scopes = (),
) -> Question:
    """Return the question about a session. Raise ValueError for an invalid scope."""
    if any_of_scopes:
        question = about_session(required_scopes, client_ip, user_agent, hints)
        return question._replace(any_of_scopes=scopes_of(any_of_scopes))
    scopes = (required_scopes,) if isinstance(required_scopes, str) else tuple(required_scopes)
    try:
        question = _about_session(client_ip, user_agent, *scopes)
    except TypeError:  # something that is no text
        question = _about_session.__wrapped__(client_ip, user_agent, *scopes)
    return question if hints is None else question._replace(client_hints=ClientHints.of_message(hints))


@remembered(max_entries=4096, max_length=1024)
def _about_session(client_ip: str, user_agent: str, *scopes: str) -> Question:
    address, agent = client_info.address(client_ip), client_info.user_agent(user_agent)
    return Question(CredentialKind.SESSION, None, scopes_of(scopes), address, agent)


def key_request(question: Question, key_string: str, cost: int | None = None) -> VerifyKeyRequest:
    """Return a question about a key as it is asked."""
    request = VerifyKeyRequest(
        key_string=key_string, client_ip=question.client_ip, user_agent=question.user_agent, cost=cost
    )
    request.required_scopes.extend(question.required_scopes)
    request.any_of_scopes.extend(question.any_of_scopes)
    return request


def session_request(
    question: Question, session_token: str, hints: pb.ClientHints | None
) -> pb.VerifySessionRequest:
    """Return a question about a session as it is asked."""
    return pb.VerifySessionRequest(
        session_token=session_token,
        required_scopes=question.required_scopes,
        client_ip=question.client_ip,
        user_agent=question.user_agent,
        client_hints=hints,
        any_of_scopes=question.any_of_scopes,
    )


def not_found(question: Question) -> Verdict:
    """Return the verdict on a credential that does not exist."""
    return Verdict(VerdictCode.NOT_FOUND, _TYPES[question.kind or CredentialKind.KEY])
