-- name: insert_session
-- In the epoch that this statement sees: one that is ended at the same time, and not seen here, ends this session, too.
-- No row: whoever opens it was revoked or is gone; so no session that is ended with all others leaves another behind.
-- Without $13 it is not by a credential that whoever opens it is known.
INSERT INTO authsvc.sessions (
    session_id, owner_id, key_prefix, secret_hash, scopes, annotations, create_time, creator_id, latest_expire_time,
    idle_timeout, last_activity_time, user_agent, ip_address, epoch)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $7, $11, $12, coalesce(max(epoch), 0)
  FROM authsvc.session_ends WHERE owner_id = $2
HAVING NOT $13 OR EXISTS (
    SELECT FROM authsvc.credentials
     WHERE credential_id = $8 AND revoked_at_once IS NOT TRUE AND (revoke_time IS NULL OR revoke_time > $7))
RETURNING true;

-- name: find_sessions
SELECT * FROM authsvc.session_rows WHERE session_id = ANY($1);

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
