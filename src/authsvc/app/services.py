"""The services with the RPCs that need a caller, over gRPC and over HTTP."""

from collections.abc import Sequence

from authsvc.app.parts import App
from authsvc.revocation.replicas import Replicas
from authsvc.rpc.audit_service import AuditService
from authsvc.rpc.key_service import KeyService
from authsvc.rpc.policy_service import OwnerPolicyService
from authsvc.rpc.replica_service import ReplicaService
from authsvc.rpc.scope_service import ScopeService
from authsvc.rpc.service import Service
from authsvc.rpc.session_service import SessionService
from authsvc.rpc.webhook_service import WebhookService


def services_of(app: App) -> Sequence[Service]:
    """Return the services of a worker."""
    return (
        KeyService(app.keys, app.leaks, app.verifier, app.tokens, app.clock),
        SessionService(app.sessions, app.verifier, app.locations, app.clock),
        OwnerPolicyService(app.policies),
        AuditService(app.audit),
        ReplicaService(Replicas(app.database)),
        ScopeService(app.catalogue),
        WebhookService(app.webhooks, app.clock),
    )
