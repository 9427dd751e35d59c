-- name: insert_sessions
-- Each in the epoch that this statement sees: one that is ended at the same time, and not seen here, ends it, too. No
-- row for one whose opener was revoked or is gone; so no session that is ended with all others leaves another behind.
-- Those that are inserted have their events ($3) recorded, in the same breath. (SELECT $2): as in find_credentials.
WITH openers AS MATERIALIZED (
    SELECT credential_id, revoke_time FROM authsvc.credentials
     WHERE credential_id = ANY((SELECT $2::text[])::text[]) AND revoked_at_once IS NOT TRUE),
inserted AS (
INSERT INTO authsvc.sessions (
    session_id, owner_id, key_prefix, secret_hash, scopes, annotations, create_time, creator_id, latest_expire_time,
    idle_timeout, last_activity_time, user_agent, ip_address, epoch)
SELECT n.session_id, n.owner_id, n.key_prefix, n.secret_hash, n.scopes, n.annotations, n.create_time, n.creator_id,
       n.latest_expire_time, n.idle_timeout, n.create_time, n.user_agent, n.ip_address,
       coalesce((SELECT max(epoch) FROM authsvc.session_ends e WHERE e.owner_id = n.owner_id), 0)
  FROM json_to_recordset($1::json) AS n (
           session_id text, owner_id text, key_prefix text, secret_hash text, scopes text[], annotations jsonb,
           create_time timestamptz, creator_id text, by_credential boolean, latest_expire_time timestamptz,
           idle_timeout interval, user_agent text, ip_address text)
 WHERE NOT n.by_credential OR EXISTS (
       SELECT FROM openers o
        WHERE o.credential_id = n.creator_id AND (o.revoke_time IS NULL OR o.revoke_time > n.create_time))
RETURNING session_id),
-- What was inserted is recorded, with the locks of the chains' heads taken last.
recorded AS MATERIALIZED (
    SELECT authsvc.record_audit(jsonb_agg(e.event ORDER BY e.n))
      FROM jsonb_array_elements($3::jsonb) WITH ORDINALITY AS e (event, n)
     WHERE e.event->>'target_id' IN (SELECT session_id FROM inserted))
SELECT session_id FROM inserted, recorded;

-- name: find_sessions
-- With $2, only those of this owner: what is another's takes the time of what is nobody's.
SELECT * FROM authsvc.session_rows WHERE session_id = ANY($1) AND ($2::text IS NULL OR owner_id = $2);

-- name: lock_session
-- With $2, only one of this owner. What ends all of them is seen when it has committed; see also its lock.
SELECT 1 FROM authsvc.sessions WHERE session_id = $1 AND ($2::text IS NULL OR owner_id = $2) FOR UPDATE;

-- name: list_sessions
-- The sessions of an owner, the newest activity first, after ($4, $5). Without $2, those that are active at $3.
SELECT * FROM authsvc.session_rows
 WHERE owner_id = $1
   AND ($2 OR (revoke_time IS NULL AND latest_expire_time > $3 AND last_activity_time + idle_timeout > $3))
   AND ($4::timestamptz IS NULL OR (last_activity_time, session_id) < ($4, $5::text))
 ORDER BY last_activity_time DESC, session_id DESC
 LIMIT $6;

-- name: update_revocation
UPDATE authsvc.sessions SET revoke_time = $2, revoker_id = $3 WHERE session_id = $1;

-- name: lock_owner_sessions
-- Taken by whoever ends all sessions of an owner, so that epochs follow one another.
SELECT pg_advisory_xact_lock(hashtextextended('sessions of ' || $1, 0));

-- name: count_active
-- How many sessions of an owner, but for $3, are active at $2.
SELECT count(*) FROM authsvc.session_rows
 WHERE owner_id = $1 AND revoke_time IS NULL AND latest_expire_time > $2 AND last_activity_time + idle_timeout > $2
   AND session_id <> $3;

-- name: end_all
-- All sessions of an owner end by this one row. No row where there is none of this epoch: nothing is to be ended.
WITH now AS (SELECT coalesce(max(epoch), 0) AS epoch FROM authsvc.session_ends WHERE owner_id = $1)
INSERT INTO authsvc.session_ends (owner_id, epoch, revoke_time, revoker_id)
SELECT $1, now.epoch + 1, $2, $3 FROM now
 WHERE EXISTS (SELECT FROM authsvc.sessions s WHERE s.owner_id = $1 AND s.epoch = now.epoch)
RETURNING epoch;

-- name: keep_session
-- Lets one session of the epoch that was ended go on in the next.
UPDATE authsvc.sessions SET epoch = $2 WHERE session_id = $1 AND epoch = $2 - 1;
