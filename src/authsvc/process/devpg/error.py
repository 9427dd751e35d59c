"""The error of the embedded PostgreSQL."""

from authsvc.model.errors import OperatorError


class DevPostgresError(OperatorError):
    """The embedded PostgreSQL cannot run; the message says why and what to do."""
