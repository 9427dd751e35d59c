"""What the role that serves may do: use the tables, and neither change the schema nor the audit log."""

# Workers of the release before 0007 insert tag key 1 when they start; a trigger ignores that. Remove the
# grant and the trigger with the first release that does not have to run beside such workers.
_GRANTS = """
    GRANT USAGE ON SCHEMA authsvc TO {role};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA authsvc TO {role};
    REVOKE INSERT, UPDATE, DELETE ON authsvc.migrations FROM {role};
    REVOKE INSERT, UPDATE, DELETE ON authsvc.tag_keys FROM {role};
    GRANT INSERT (tag_key_id, tag_key) ON authsvc.tag_keys TO {role};
    REVOKE INSERT, DELETE ON authsvc.feed_head FROM {role};
    REVOKE UPDATE ON authsvc.feed FROM {role};
    REVOKE INSERT, UPDATE, DELETE ON authsvc.deleted_creators FROM {role};
    SELECT authsvc.grant_audit({name});
    GRANT EXECUTE ON FUNCTION authsvc.lock_heads_at_once(text[]) TO {role};
"""


def grants(role: str) -> str:
    """Return the SQL that gives a role what it needs, which has to be one transaction.

    Otherwise the role could change the audit log for a moment.
    """
    return _GRANTS.format(role=_quoted(role, '"'), name=_quoted(role, "'"))


def _quoted(text: str, quote: str) -> str:
    return quote + text.replace(quote, 2 * quote) + quote
