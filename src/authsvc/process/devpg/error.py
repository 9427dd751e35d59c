"""The one error of the embedded PostgreSQL."""


class DevPostgresError(Exception):
    """The embedded PostgreSQL cannot run; the message says why and what to do."""
