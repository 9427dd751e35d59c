"""Why a sign-in by OpenID Connect did not succeed."""


class SignInFailed(Exception):
    """What is shown is a text of the console, `page`; the message is for the log, and has no secrets."""

    page, http_status = "oidc_failed", 502


class ProviderUnavailable(SignInFailed):
    """The provider cannot be reached, or does not answer as it should."""

    page, http_status = "oidc_unavailable", 502


class Busy(SignInFailed):
    """Too many sign-ins wait for the provider."""

    page, http_status = "oidc_busy", 503


class Refused(SignInFailed):
    """What the browser brought is not accepted: the code is not valid, or the ID token is not for it."""

    page, http_status = "oidc_refused", 403


class Cancelled(SignInFailed):
    """The provider sent the browser back with an error: mostly the person has cancelled."""

    page, http_status = "oidc_cancelled", 403


class NoRole(SignInFailed):
    """The person has no role that gives scopes."""

    page, http_status = "oidc_no_role", 403


class StartAgain(SignInFailed):
    """This browser has not started the sign-in that it comes back from, or too long ago."""

    page, http_status = "oidc_start_again", 400


class Misconfigured(SignInFailed):
    """The console cannot open the session: its key, or the scopes of a role, do not allow that."""

    page, http_status = "oidc_failed", 503
