-- name: hold_authority
SELECT kind, credential_id, owner_id, scopes, expire_time, revoke_time, revoked_at_once, keys_enabled, is_over,
       disable_time, disabled_until, allowed_networks, owner_networks
  FROM authsvc.hold_authority($1, $2, $3, $4, $5, $6, $7);

-- name: share_at_once
-- Takes those shared locks of hold_authority that are free, without waiting and in any order: of owners ($1), of the sessions of
-- owners ($2), of the rows of credentials ($3). Returns which it has taken.
WITH locked_keys AS (SELECT key_id FROM authsvc.keys WHERE key_id = ANY($3::text[]) FOR KEY SHARE SKIP LOCKED),
     locked_sessions AS (SELECT session_id FROM authsvc.sessions WHERE session_id = ANY($3::text[]) FOR KEY SHARE SKIP LOCKED)
SELECT ARRAY(SELECT o FROM unnest($1::text[]) AS o
              WHERE pg_try_advisory_xact_lock_shared(hashtextextended(o, 0))) AS owners,
       ARRAY(SELECT o FROM unnest($2::text[]) AS o
              WHERE pg_try_advisory_xact_lock_shared(hashtextextended('sessions of ' || o, 0))) AS session_owners,
       ARRAY(SELECT key_id FROM locked_keys) || ARRAY(SELECT session_id FROM locked_sessions) AS credentials;
