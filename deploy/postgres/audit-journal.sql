-- Prints the audit events of all owners since a time, for a journal outside of the database: docs/backup.md.
--
--   psql -X -v since='1 hour' -f deploy/postgres/audit-journal.sql "$AUTHSVC_DATABASE_URL" > events.tsv
--
-- `since` is an interval before now. The role that serves may run it. Repeated events do no harm: lost-changes.sql knows them
-- by their IDs. Only the chains that have grown since then are read.

\set ON_ERROR_STOP on
\set QUIET on

SET DateStyle = 'ISO';
COPY (
    SELECT e.owner_id, e.event_id, e.event_time, e.action, e.target_id
      FROM authsvc.audit_heads h
      JOIN authsvc.audit_events e ON e.owner_id = h.owner_id AND e.event_time >= now() - :'since'::interval
     WHERE h.event_time >= now() - :'since'::interval
     ORDER BY e.event_time, e.owner_id, e.position
) TO STDOUT;
