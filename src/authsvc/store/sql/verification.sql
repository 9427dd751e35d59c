-- name: find_credentials
-- What verification needs to know of credentials, and the feed's end in the same snapshot: at least one row.
-- As (SELECT $1) its length is not looked at, so one plan serves all; to make one takes longer than to carry it out.
SELECT h.seq, h.nonce, c.*
  FROM authsvc.feed_head h LEFT JOIN authsvc.credentials c ON c.key_prefix = ANY((SELECT $1::text[])::text[]);

-- name: prove_primary
-- Writes to the log of the database, and nothing else; its commit is waited for, which a node that was replaced cannot do.
SELECT pg_logical_emit_message(true, 'authsvc', '') FROM set_config('synchronous_commit', 'on', true);

-- name: replace_secret_hash
-- The same secret at another cost. Not a change of the key.
UPDATE authsvc.keys SET secret_hash = $3 WHERE key_prefix = $1 AND secret_hash = $2;

-- name: record_uses
-- Never moves a last use backwards; uses of deleted keys find no row.
UPDATE authsvc.key_uses k
   SET last_use_time = u.use_time, last_use_ip = u.client_ip
  FROM unnest($1::text[], $2::timestamptz[], $3::text[]) AS u (key_id, use_time, client_ip)
 WHERE k.key_id = u.key_id AND (k.last_use_time IS NULL OR k.last_use_time < u.use_time);

-- name: end_idle
-- Before anybody is told that a session is over, so that nobody brings it back. No row: it is not over, or was before.
UPDATE authsvc.sessions SET is_over = true
 WHERE session_id = $1 AND last_activity_time + idle_timeout <= $2 AND NOT is_over
   AND set_config('synchronous_commit', 'on', true) IS NOT NULL
RETURNING true;

-- name: find_activity
SELECT last_activity_time FROM authsvc.sessions WHERE session_id = $1 AND NOT is_over;

-- name: record_activity
-- No row: the session is over. Others rely on this one, so the commit is waited for.
UPDATE authsvc.sessions
   SET last_activity_time = greatest(last_activity_time, $2),
       ip_address = coalesce(nullif($3, ''), ip_address), user_agent = coalesce(nullif($4, ''), user_agent),
       client_hints = CASE WHEN $4 IN ('', user_agent) THEN client_hints ELSE '{}' END || $5::jsonb
 WHERE session_id = $1 AND NOT is_over
   AND set_config('synchronous_commit', 'on', true) IS NOT NULL
RETURNING last_activity_time;

-- name: record_activities
-- Never moves a last activity backwards, and brings no session back that is over.
UPDATE authsvc.sessions s
   SET last_activity_time = a.time,
       ip_address = coalesce(nullif(a.ip_address, ''), s.ip_address),
       user_agent = coalesce(nullif(a.user_agent, ''), s.user_agent),
       client_hints = CASE WHEN a.user_agent IN ('', s.user_agent) THEN s.client_hints ELSE '{}' END || a.client_hints::jsonb
  FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[])
       AS a (session_id, time, ip_address, user_agent, client_hints)
 WHERE s.session_id = a.session_id AND s.last_activity_time < a.time AND NOT s.is_over;
