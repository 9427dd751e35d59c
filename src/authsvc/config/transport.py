"""Whether the settings of the transport fit together, and keep key strings in plain text on this machine."""

from authsvc.config.settings import PREFIX, ConfigError, Settings
from authsvc.net.listen_address import ListenAddress


def check_transport(settings: Settings) -> None:
    """Raise ConfigError when settings of the transport do not fit together, or are not safe."""
    problems = []
    if (settings.tls_cert is None) != (settings.tls_key is None):
        missing = "TLS_KEY" if settings.tls_key is None else "TLS_CERT"
        problems.append(f"{PREFIX}{missing}: a certificate and its key are set together, or neither")
    if settings.tls_client_ca is not None and settings.tls_cert is None:
        problems.append(
            f"{PREFIX}TLS_CLIENT_CA: clients show certificates over TLS only; "
            f"set {PREFIX}TLS_CERT and {PREFIX}TLS_KEY"
        )
    if settings.tls_client_auth == "optional" and settings.tls_client_ca is None:
        problems.append(
            f"{PREFIX}TLS_CLIENT_AUTH: clients are asked for those of {PREFIX}TLS_CLIENT_CA only; set it"
        )
    if settings.tls_client_auth == "optional" and settings.transport == "grpcio":
        problems.append(
            f"{PREFIX}TLS_CLIENT_AUTH: grpcio asks every client for a certificate, or none; "
            f"use {PREFIX}TRANSPORT=lane"
        )
    if settings.callers is not None and settings.tls_client_ca is None:
        problems.append(
            f"{PREFIX}CALLERS: without {PREFIX}TLS_CLIENT_CA no caller shows a certificate; set it"
        )
    if settings.tls_cert is None:
        remedy = f"set {PREFIX}TLS_CERT and {PREFIX}TLS_KEY, or listen at 127.0.0.1"
        problems += _plain_text(settings, "LISTEN", settings.listen, remedy)
        if settings.web_listen is not None:
            problems += _plain_text(settings, "WEB_LISTEN", settings.web_listen, remedy)
    if settings.http_listen is not None:
        problems += _plain_text(
            settings, "HTTP_LISTEN", settings.http_listen, "listen at 127.0.0.1, beside the proxy"
        )
    if problems:
        raise ConfigError("\n".join(problems))


def web_url(settings: Settings) -> str:
    """Return where clients on this machine find what is served over HTTP; "" if nothing is."""
    if settings.web_listen is None:
        return ""
    return f"{'http' if settings.tls_cert is None else 'https'}://{settings.web_listen.reachable}"


def _plain_text(settings: Settings, name: str, listen: ListenAddress, remedy: str) -> list[str]:
    if settings.insecure or listen.is_loopback:
        return []
    return [
        f"{PREFIX}{name}: key strings would travel in plain text beyond loopback, at {listen}; {remedy}. "
        f"Where a lower layer encrypts, set {PREFIX}INSECURE=plaintext-beyond-loopback"
    ]
