-- name: find_look_ups
-- The keys that have these look-ups.
SELECT key_prefix, key_id, owner_id FROM authsvc.keys WHERE key_prefix = ANY((SELECT $1::text[])::text[]);

-- name: insert_imported
-- Keys with their rows for the last use. One whose look-up is in use is left out. In the order of their look-ups, so that imports
-- that have some in common wait for each other and do not lock each other out. Returns the ids of those that were inserted.
WITH made AS (
    INSERT INTO authsvc.keys (
        key_id, owner_id, key_prefix, secret_hash, secret_origin, display_name, folded_name, description, scopes,
        technical_contacts, annotations, create_time, creator_id, update_time, expire_time, revoker_id, revoke_reason,
        rotated_from_key_id, rotated_to_key_id, request_id, version, allowed_networks, rate_limits, budget_id)
    SELECT g.key_id, g.owner_id, g.key_prefix, g.secret_hash, 'imported', g.display_name, g.folded_name, g.description, g.scopes,
           g.technical_contacts, g.annotations, g.create_time, g.creator_id, g.create_time, g.expire_time, '', '', '', '',
           g.request_id, g.version, g.allowed_networks, g.rate_limits, g.budget_id
      FROM jsonb_to_recordset($1::jsonb) AS g (
        key_id text, owner_id text, key_prefix text, secret_hash text, display_name text, folded_name text, description text,
        scopes text[], technical_contacts jsonb, annotations jsonb, create_time timestamptz, creator_id text,
        expire_time timestamptz, allowed_networks text[], rate_limits jsonb, budget_id text, version integer, request_id text)
     ORDER BY g.key_prefix COLLATE "C"
        ON CONFLICT (key_prefix) DO NOTHING
    RETURNING key_id, owner_id, key_prefix),
used AS (
    INSERT INTO authsvc.key_uses (key_id, owner_id) SELECT m.key_id, m.owner_id FROM made m),
noted AS (
    INSERT INTO authsvc.imported_keys (key_id, key_prefix) SELECT m.key_id, m.key_prefix FROM made m)
SELECT m.key_id FROM made m;
