"""TLS, and the callers that certificates identify."""

from authsvc.app.tracing import check_traces
from authsvc.config.oidc import check_oidc
from authsvc.config.reloaded_files import ReloadedFiles
from authsvc.config.settings import Settings
from authsvc.config.tokens import check_tokens
from authsvc.config.transport import check_transport
from authsvc.entrance.callers import Callers, reloaded_callers
from authsvc.rpc.tls import Tls


def transport(settings: Settings) -> tuple[Tls | None, ReloadedFiles[Callers] | None]:
    """Return TLS, and the callers that certificates identify; None for each that is not configured.

    Raises ConfigError for files that cannot be used, for plain text that is not explicitly allowed, and for
    settings of the console or of tokens that do not fit together.
    """
    check_transport(settings)
    check_oidc(settings)
    check_tokens(settings)
    check_traces(settings)
    tls = certified = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        optional = settings.tls_client_auth == "optional"
        tls = Tls(settings.tls_cert, settings.tls_key, settings.tls_client_ca, certificates_optional=optional)
    if settings.callers is not None:
        known = None if settings.scopes is None else [scope.name for scope in settings.scopes]
        certified = reloaded_callers(settings.callers, known)
    return tls, certified
