-- name: find_credentials
-- The credentials with these prefixes, and the end of the feed in the same snapshot; at least one row. (SELECT $1) hides the
-- length of the array from the planner, so that one generic plan is used. Planning takes longer than execution.
SELECT h.seq, h.nonce, c.kind, c.key_prefix, c.credential_id, c.owner_id, c.scopes, c.annotations, c.expire_time, c.revoke_time,
       c.revoked_at_once, c.secret_hash, c.secret_origin, c.last_activity_time, c.idle_timeout, c.keys_enabled,
       c.disable_time, c.disabled_until, c.allowed_networks, c.owner_networks, c.rate_limits,
       c.owner_rate_limits, c.budget_id, c.credit_account_id, c.credit_epoch
  FROM authsvc.feed_head h LEFT JOIN authsvc.credentials c ON c.key_prefix = ANY((SELECT $1::text[])::text[]);

-- name: list_look_ups
-- At most $2 look-ups of imported keys, in the order of the ids of the keys, after the id $1; and the end of the feed in the same
-- snapshot. At least one row.
SELECT h.seq, h.nonce, i.key_id, i.key_prefix
  FROM authsvc.feed_head h
  LEFT JOIN (SELECT key_id, key_prefix FROM authsvc.imported_keys WHERE key_id > $1 ORDER BY key_id LIMIT $2) AS i ON true
 ORDER BY i.key_id;

-- name: prove_primary
-- Writes to the WAL only. The commit waits for the standby, which a primary that was replaced cannot complete.
SELECT pg_logical_emit_message(true, 'authsvc', '') FROM set_config('synchronous_commit', 'on', true);

-- name: replace_secret_hash
-- The same secret hashed at another cost. This is not a change of the key.
UPDATE authsvc.keys SET secret_hash = $3 WHERE key_prefix = $1 AND secret_hash = $2;

-- name: end_idle
-- Done before anybody is told that a session is over, so that nothing can extend it. No row if it is not over, or was already.
UPDATE authsvc.sessions SET is_over = true
 WHERE session_id = $1 AND last_activity_time + idle_timeout <= $2 AND NOT is_over
   AND set_config('synchronous_commit', 'on', true) IS NOT NULL
RETURNING true;

-- name: find_activity
SELECT last_activity_time FROM authsvc.sessions WHERE session_id = $1 AND NOT is_over;

-- name: record_activity
-- No row if the session is over. Other workers rely on this activity, so the commit waits for the standby.
UPDATE authsvc.sessions
   SET last_activity_time = greatest(last_activity_time, $2),
       ip_address = coalesce(nullif($3, ''), ip_address), user_agent = coalesce(nullif($4, ''), user_agent),
       client_hints = CASE WHEN $4 IN ('', user_agent) THEN client_hints ELSE '{}' END || $5::jsonb
 WHERE session_id = $1 AND NOT is_over
   AND set_config('synchronous_commit', 'on', true) IS NOT NULL
RETURNING last_activity_time;

-- name: record_activities
-- Never moves a last activity back, and never extends a session that is over. Locks in the order of hold_authority, because a
-- revocation may lock many sessions.
WITH locked AS MATERIALIZED (
    SELECT session_id FROM authsvc.sessions WHERE session_id = ANY($1::text[])
     ORDER BY owner_id <> 'authsvc', session_id FOR NO KEY UPDATE)
UPDATE authsvc.sessions s
   SET last_activity_time = a.time,
       ip_address = coalesce(nullif(a.ip_address, ''), s.ip_address),
       user_agent = coalesce(nullif(a.user_agent, ''), s.user_agent),
       client_hints = CASE WHEN a.user_agent IN ('', s.user_agent) THEN s.client_hints ELSE '{}' END || a.client_hints::jsonb
  FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[])
       AS a (session_id, time, ip_address, user_agent, client_hints)
  JOIN locked USING (session_id)
 WHERE s.session_id = a.session_id AND s.last_activity_time < a.time AND NOT s.is_over;
