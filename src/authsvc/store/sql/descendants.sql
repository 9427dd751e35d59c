-- name: find_descendants
-- What the keys $1 created, what that created, and so on; with $2, only what belongs to this owner. Returns at most $4 of those that
-- may be alive, or whose creations may not be committed yet: all but those that were revoked by a transaction, or whose time was over
-- at $3. Of the sessions that have ended, only those are looked at that could create something.
WITH RECURSIVE descendants (credential_id, owner_id, is_key, is_settled) AS (
    SELECT k.key_id, k.owner_id, true, true
      FROM authsvc.keys k WHERE k.key_id = ANY($1::text[]) AND ($2::text IS NULL OR k.owner_id = $2)
     UNION
    SELECT c.credential_id, c.owner_id, c.is_key, c.is_settled
      FROM descendants d CROSS JOIN LATERAL (
        SELECT k.key_id AS credential_id, k.owner_id, true AS is_key,
               coalesce(k.revoke_time <= greatest(k.update_time, $3), false) AS is_settled
          FROM authsvc.keys k WHERE k.creator_id = d.credential_id
        UNION ALL
        SELECT s.session_id, s.owner_id, false,
               EXISTS (SELECT FROM authsvc.session_ends e WHERE e.owner_id = s.owner_id AND e.epoch > s.epoch)
          FROM authsvc.sessions s
         WHERE s.creator_id = d.credential_id AND s.revoke_time IS NULL AND s.latest_expire_time > $3
        UNION ALL
        SELECT s.session_id, s.owner_id, false, true
          FROM authsvc.sessions s
         WHERE s.creator_id = d.credential_id AND s.scopes && ARRAY['full_access', 'keys:write', 'sessions:write']::text[]
           AND (s.revoke_time IS NOT NULL OR s.latest_expire_time <= $3)
        UNION ALL
        SELECT x.credential_id, $2, false, true
          FROM authsvc.deleted_creators x WHERE x.creator_id = d.credential_id
      ) AS c
     WHERE $2::text IS NULL OR c.owner_id = $2)
SELECT credential_id, owner_id, is_key FROM descendants WHERE NOT is_settled LIMIT $4;

-- name: lock_free
-- Takes those locks of hold_authority that are free for changing the keys and sessions $1 of the owners $2, without waiting and in
-- any order. Returns whether it has taken all of them.
WITH locked_keys AS (SELECT key_id FROM authsvc.keys WHERE key_id = ANY($1::text[]) FOR UPDATE SKIP LOCKED),
     locked_sessions AS (SELECT session_id FROM authsvc.sessions WHERE session_id = ANY($1::text[]) FOR UPDATE SKIP LOCKED)
SELECT (SELECT count(*) FROM unnest($2::text[]) AS o WHERE pg_try_advisory_xact_lock_shared(hashtextextended(o, 0))) = cardinality($2)
   AND (SELECT count(*) FROM locked_keys) + (SELECT count(*) FROM locked_sessions) = cardinality($1);

-- name: revoke_descendants
-- Revokes the locked keys $1 at $4, each with the key in $2 ('': for itself), and the locked sessions $3; records the audit events $7
-- in the same statement, which locks the heads of chains last.
WITH revoked_keys AS (
    UPDATE authsvc.keys k
       SET update_time = $4, revoke_time = $4, revoker_id = $5, revoke_reason = $6, revoked_with_key_id = r.with_key_id,
           version = k.version + 1
      FROM unnest($1::text[], $2::text[]) AS r (key_id, with_key_id)
     WHERE k.key_id = r.key_id
    RETURNING k.key_id),
revoked_sessions AS (
    UPDATE authsvc.sessions s SET revoke_time = $4, revoker_id = $5 WHERE s.session_id = ANY($3::text[]) RETURNING s.session_id)
SELECT authsvc.record_audit($7::jsonb)
  FROM (SELECT count(*) FROM revoked_keys) AS keys, (SELECT count(*) FROM revoked_sessions) AS sessions;
