-- name: create_keys
-- In a transaction of its own: those for which nothing differs from what they were judged by.
SELECT authsvc.create_keys($1, $2, $3, $4);

-- name: revoke_keys_at_once
-- The same for revocations, with their entry of the feed.
SELECT authsvc.revoke_keys($1, $2, $3, $4, $5);

-- name: insert_key
-- Each key gets a row for its last use, by which lists can be ordered. Nothing is inserted if the owner has sent the same
-- request_id before.
WITH inserted AS (
    INSERT INTO authsvc.keys (
        key_id, owner_id, key_prefix, secret_hash, secret_origin, display_name, folded_name, description, scopes,
        technical_contacts, annotations, create_time, creator_id, update_time, expire_time, revoke_time, revoker_id,
        revoke_reason, rotated_from_key_id, rotated_to_key_id, request_id, version, allowed_networks,
        rate_limits, budget_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $24, $25,
            $26)
    ON CONFLICT (owner_id, request_id) WHERE request_id IS NOT NULL DO NOTHING
    RETURNING key_id, owner_id)
INSERT INTO authsvc.key_uses (key_id, owner_id, answer) SELECT key_id, owner_id, $23 FROM inserted RETURNING key_id;

-- name: find_request
-- The key that was created for an owner's request_id, even if it was deleted.
SELECT key_id FROM authsvc.keys WHERE owner_id = $1 AND request_id = $2
UNION ALL
SELECT key_id FROM authsvc.deleted_key_requests WHERE owner_id = $1 AND request_id = $2
 LIMIT 1;

-- name: give_up_request
UPDATE authsvc.keys SET request_id = NULL WHERE key_id = $1;

-- name: record_answers
-- An answer that was lost stays lost. Returns how many were lost.
WITH noted AS (
    UPDATE authsvc.key_uses u
       SET answer = CASE WHEN a.sent THEN NULL ELSE 'lost' END
      FROM unnest($1::text[], $2::boolean[]) AS a (key_id, sent)
     WHERE u.key_id = a.key_id AND (u.answer = 'pending' OR NOT a.sent)
    RETURNING u.answer)
SELECT count(answer) FROM noted;

-- name: lock_request
-- Taken before a request_id is looked up, so that nobody creates and deletes a key for it between the look-up and the insert.
SELECT pg_advisory_xact_lock(hashtextextended('request ' || $2 || ' of ' || $1, 0));

-- name: find_keys
-- With $2, only those of this owner. A key of another owner then takes the same time as one that does not exist. (SELECT $1) hides
-- the length of the array from the planner, so that one generic plan is used. Planning takes longer than execution.
SELECT key_id, owner_id, key_prefix, display_name, description, scopes, technical_contacts, annotations, create_time, creator_id,
       update_time, expire_time, revoke_time, revoker_id, revoke_reason, last_use_time, last_use_ip, rotated_from_key_id,
       rotated_to_key_id, answer, version, disable_time, disabled_until, disabler_id, disable_reason, disabled_by_platform,
       allowed_networks, revoke_cause, revoked_with_key_id, rate_limits, budget_id, credits
  FROM authsvc.key_records
 WHERE key_id = ANY((SELECT $1::text[])::text[]) AND owner_id = coalesce((SELECT $2::text), owner_id);

-- name: update_key
-- The mutable columns.
UPDATE authsvc.keys
   SET display_name = $2, folded_name = $3, description = $4, scopes = $5, technical_contacts = $6, annotations = $7,
       update_time = $8, expire_time = $9, revoke_time = $10, revoker_id = $11, revoke_reason = $12,
       rotated_to_key_id = $13, version = $14, allowed_networks = $15, disable_time = $16, disabled_until = $17,
       disabler_id = $18, disable_reason = $19, disabled_by_platform = $20, rate_limits = $21
 WHERE key_id = $1;

-- name: revoke_keys
-- Revokes locked keys at $3, and records the audit events $6, in one statement, which locks the heads of chains last.
WITH revoked AS (
    UPDATE authsvc.keys k
       SET update_time = $2, revoke_time = $3, revoker_id = $4, revoke_reason = $5, version = k.version + 1
     WHERE k.key_id = ANY($1::text[])
    RETURNING k.key_id)
SELECT authsvc.record_audit($6::jsonb) FROM (SELECT count(*) FROM revoked) AS done;

-- name: revoke_leaked_keys
-- Revokes the locked keys $1 at $2, each for its reason in $4, and records the audit events $5, in one statement.
WITH revoked AS (
    UPDATE authsvc.keys k
       SET update_time = $2, revoke_time = $2, revoker_id = $3, revoke_reason = l.reason, revoke_cause = 'leaked',
           version = k.version + 1
      FROM unnest($1::text[], $4::text[]) AS l (key_id, reason)
     WHERE k.key_id = l.key_id
    RETURNING k.key_id)
SELECT authsvc.record_audit($5::jsonb) FROM (SELECT count(*) FROM revoked) AS done;

-- name: revoke_owner
-- All keys of an owner that are not revoked yet. The owner is locked, so only callers that use these keys have locked any.
WITH locked AS MATERIALIZED (
    SELECT key_id FROM authsvc.keys
     WHERE owner_id = $1 AND (revoke_time IS NULL OR revoke_time > greatest($2, update_time))
     ORDER BY key_id
       FOR UPDATE)
UPDATE authsvc.keys k
   SET revoke_time = $2, revoker_id = $3, revoke_reason = $4, update_time = $2, version = version + 1
  FROM locked WHERE k.key_id = locked.key_id
RETURNING k.key_id, k.key_prefix;

-- name: delete_keys
-- Their request ids stay in use.
WITH gone AS (
    DELETE FROM authsvc.keys WHERE key_id = ANY($1) RETURNING owner_id, request_id, key_id)
INSERT INTO authsvc.deleted_key_requests (owner_id, request_id, key_id, delete_time)
SELECT owner_id, request_id, key_id, $2 FROM gone WHERE request_id IS NOT NULL
    ON CONFLICT (owner_id, request_id) DO UPDATE SET key_id = excluded.key_id, delete_time = excluded.delete_time;

-- name: alone_for_administrator
-- The holder of the lock creates a key over another connection, which may take longer than the usual idle timeout.
SELECT set_config('idle_in_transaction_session_timeout', '60s', true),
       pg_advisory_xact_lock(hashtextextended('authsvc administrator', 0));

-- name: has_active_owner_key
-- Whether an owner has a key with this scope that is active at $3 and whose string may have been delivered. While the answer
-- is pending, the key must have been created at $4 or later.
SELECT EXISTS (
    SELECT FROM authsvc.key_records
     WHERE owner_id = $1 AND $2 = ANY(scopes)
       AND (revoke_time IS NULL OR revoke_time > greatest($3, update_time)) AND (expire_time IS NULL OR expire_time > $3)
       AND (disable_time IS NULL OR disabled_until <= $3)
       AND (last_use_time IS NOT NULL OR answer IS NULL OR answer = 'pending' AND create_time >= $4));

-- name: has_lasting_key
-- The same without the keys $5, and without those that are scheduled to be revoked or that are confined to networks, which may be
-- those of nobody.
SELECT EXISTS (
    SELECT FROM authsvc.key_records
     WHERE owner_id = $1 AND $2 = ANY(scopes) AND revoke_time IS NULL AND (expire_time IS NULL OR expire_time > $3)
       AND (disable_time IS NULL OR disabled_until <= $3) AND allowed_networks = '{}'
       AND (last_use_time IS NOT NULL OR answer IS NULL OR answer = 'pending' AND create_time >= $4)
       AND key_id <> ALL($5));
