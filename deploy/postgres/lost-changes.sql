-- Compares a journal of audit events with a restored database, and prints what the database lacks: docs/backup.md.
--
--   cat *.tsv | psql -X -f deploy/postgres/lost-changes.sql "$AUTHSVC_MIGRATION_DATABASE_URL" > again.tsv
--   cat *.tsv | psql -X -v list=1 -f deploy/postgres/lost-changes.sql "$AUTHSVC_MIGRATION_DATABASE_URL"
--
-- The first one prints the calls that take away again what was taken away, one in a line: an RPC, a tab, and its request as
-- JSON. The second one prints all lost changes, for people. It changes nothing. The owner of the schema may run it.

\set ON_ERROR_STOP on
\set QUIET on
\pset format unaligned
\pset tuples_only on
\pset fieldsep '\t'

SET client_min_messages = warning;
SET DateStyle = 'ISO';
CREATE TEMPORARY TABLE told (
    owner_id text COLLATE "C", event_id text COLLATE "C", event_time timestamptz, action text, target_id text COLLATE "C"
);
\copy told FROM pstdin
CREATE TEMPORARY TABLE lost AS
    SELECT DISTINCT t.* FROM told t
     WHERE t.action NOT IN ('REFUSED', 'CHANGE_CONFIRMED', 'KEY_ADDRESS_REFUSED')
       AND NOT EXISTS (SELECT FROM authsvc.audit_events e
                        WHERE e.owner_id = t.owner_id AND e.event_time = t.event_time AND e.event_id = t.event_id);

\if :{?list}
SELECT event_time, action, owner_id, target_id FROM lost ORDER BY event_time, event_id;
\else
-- At most 100 keys in a call. The old key of a rotation ends as well: its successor may be lost, but its end was promised.
SELECT 'KeyService/BatchRevokeKeys', json_build_object('keyIds', json_agg(key_id), 'reason', 'revoked before the restore')
  FROM (SELECT key_id, (row_number() OVER (ORDER BY key_id) - 1) / 100 AS batch
          FROM authsvc.keys k
         WHERE (k.revoke_time IS NULL OR k.revoke_time > now())
           AND (EXISTS (SELECT FROM lost l WHERE l.target_id = k.key_id
                           AND l.action IN ('KEY_REVOKED', 'KEY_ROTATED', 'KEY_DELETED'))
             OR EXISTS (SELECT FROM lost l WHERE l.owner_id = k.owner_id AND l.action = 'OWNER_KEYS_REVOKED'
                           AND l.event_time >= k.create_time))) AS keys
 GROUP BY batch ORDER BY batch;

SELECT 'SessionService/RevokeSession', json_build_object('sessionId', s.session_id)
  FROM authsvc.session_records s
 WHERE s.revoke_time IS NULL AND s.latest_expire_time > now() AND s.last_activity_time + s.idle_timeout > now()
   AND EXISTS (SELECT FROM lost l WHERE l.target_id = s.session_id AND l.action = 'SESSION_REVOKED')
 ORDER BY s.session_id;

-- Without the session that may have been excepted: its user signs in again.
SELECT 'SessionService/RevokeAllSessions', json_build_object('ownerId', l.owner_id)
  FROM (SELECT DISTINCT owner_id FROM lost WHERE action = 'OWNER_SESSIONS_REVOKED') AS l
 ORDER BY l.owner_id;

SELECT 'KeyService/DisableKey', json_build_object('keyId', k.key_id, 'reason', 'disabled before the restore')
  FROM authsvc.keys k
  JOIN (SELECT DISTINCT ON (target_id) target_id, action FROM lost WHERE action IN ('KEY_DISABLED', 'KEY_ENABLED')
         ORDER BY target_id, event_time DESC) AS l ON l.target_id = k.key_id AND l.action = 'KEY_DISABLED'
 WHERE (k.revoke_time IS NULL OR k.revoke_time > now())
   AND (k.disable_time IS NULL OR k.disabled_until <= now())
   AND NOT EXISTS (SELECT FROM lost r WHERE r.target_id = k.key_id AND r.action IN ('KEY_REVOKED', 'KEY_ROTATED', 'KEY_DELETED'))
 ORDER BY k.key_id;
\endif
