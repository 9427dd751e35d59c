-- name: find_credentials
-- What verification needs to know of keys, and the feed's end in the same snapshot: at least one row.
SELECT h.seq, h.nonce, k.key_prefix, k.key_id, k.owner_id, k.scopes, k.expire_time, k.revoke_time,
       k.revoke_time <= k.update_time AS revoked_at_once, k.annotations, k.secret_hash, k.secret_origin
  FROM authsvc.feed_head h LEFT JOIN authsvc.keys k ON k.key_prefix = ANY($1);

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

-- name: make_tag_key
INSERT INTO authsvc.tag_keys (tag_key_id, tag_key) VALUES (1, $1) ON CONFLICT DO NOTHING;

-- name: find_tag_key
SELECT tag_key FROM authsvc.tag_keys WHERE tag_key_id = 1;
