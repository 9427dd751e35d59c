-- name: insert_sessions
-- Each session is in the current epoch, which nobody can end meanwhile. Inserts their audit events ($2), too, and so locks the
-- heads of chains last.
WITH inserted AS (
INSERT INTO authsvc.sessions (
    session_id, owner_id, key_prefix, secret_hash, scopes, annotations, create_time, creator_id, latest_expire_time,
    idle_timeout, last_activity_time, user_agent, ip_address, client_hints, epoch)
SELECT n.session_id, n.owner_id, n.key_prefix, n.secret_hash, n.scopes, n.annotations, n.create_time, n.creator_id,
       n.latest_expire_time, n.idle_timeout, n.create_time, n.user_agent, n.ip_address,
       n.client_hints, coalesce((SELECT max(epoch) FROM authsvc.session_ends e WHERE e.owner_id = n.owner_id), 0)
  FROM json_to_recordset($1::json) AS n (
           session_id text, owner_id text, key_prefix text, secret_hash text, scopes text[], annotations jsonb,
           create_time timestamptz, creator_id text, latest_expire_time timestamptz, idle_timeout interval, user_agent text,
           ip_address text, client_hints jsonb)
RETURNING session_id)
SELECT authsvc.record_audit($2::jsonb) FROM (SELECT count(*) FROM inserted) AS done;

-- name: find_sessions
-- With $2, only those of this owner. A session of another owner then takes the same time as one that does not exist.
SELECT session_id, owner_id, key_prefix, scopes, annotations, create_time, creator_id, latest_expire_time, idle_timeout,
       last_activity_time, user_agent, ip_address, client_hints, revoke_time, revoker_id
  FROM authsvc.session_records
 WHERE session_id = ANY($1) AND ($2::text IS NULL OR owner_id = $2);

-- name: list_sessions
-- The sessions of an owner, the newest activity first, after ($4, $5). Without $2, only those that are active at $3.
SELECT session_id, owner_id, key_prefix, scopes, annotations, create_time, creator_id, latest_expire_time, idle_timeout,
       last_activity_time, user_agent, ip_address, client_hints, revoke_time, revoker_id
  FROM authsvc.session_records
 WHERE owner_id = $1
   AND ($2 OR (revoke_time IS NULL AND latest_expire_time > $3 AND last_activity_time + idle_timeout > $3))
   AND ($4::timestamptz IS NULL OR (last_activity_time, session_id) < ($4, $5::text))
 ORDER BY last_activity_time DESC, session_id DESC
 LIMIT $6;

-- name: update_revocation
UPDATE authsvc.sessions SET revoke_time = $2, revoker_id = $3 WHERE session_id = $1;

-- name: end_all
-- This row ends all sessions of an owner. No row if the epoch has no session. Nobody is opening one meanwhile, because that
-- needs a shared lock, and this transaction holds the exclusive one.
WITH now AS (SELECT coalesce(max(epoch), 0) AS epoch FROM authsvc.session_ends WHERE owner_id = $1)
INSERT INTO authsvc.session_ends (owner_id, epoch, revoke_time, revoker_id)
SELECT $1, now.epoch + 1, $2, $3 FROM now
 WHERE EXISTS (SELECT FROM authsvc.sessions s WHERE s.owner_id = $1 AND s.epoch = now.epoch)
RETURNING epoch;

-- name: count_ended
-- Of at most $5 sessions of the epoch before $2, except $4: how many were active at $3, and how many were examined.
SELECT count(*) FILTER (
           WHERE s.revoke_time IS NULL AND s.latest_expire_time > $3 AND s.last_activity_time + s.idle_timeout > $3) AS active,
       count(*) AS looked_at
  FROM (SELECT revoke_time, latest_expire_time, last_activity_time, idle_timeout FROM authsvc.sessions
         WHERE owner_id = $1 AND epoch = $2 - 1 AND session_id <> $4 LIMIT $5) AS s;

-- name: keep_session
-- Moves one session from the epoch that was ended to the next, so that it stays active.
UPDATE authsvc.sessions SET epoch = $2 WHERE session_id = $1 AND epoch = $2 - 1;
