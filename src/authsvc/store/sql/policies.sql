-- name: find_policy
SELECT owner_id, keys_enabled, max_active_keys, allowed_scopes, max_key_lifetime, expiration_required, contacts_required,
       key_edits, key_managers, brand, rotation_period, update_time, version, allowed_networks, rate_limits
  FROM authsvc.owner_policies WHERE owner_id = $1;

-- name: find_policies
SELECT owner_id, keys_enabled, max_active_keys, allowed_scopes, max_key_lifetime, expiration_required, contacts_required,
       key_edits, key_managers, brand, rotation_period, update_time, version, allowed_networks, rate_limits
  FROM authsvc.owner_policies WHERE owner_id = ANY($1);

-- name: save_policy
INSERT INTO authsvc.owner_policies (
    owner_id, keys_enabled, max_active_keys, allowed_scopes, max_key_lifetime, expiration_required, contacts_required,
    key_edits, key_managers, brand, rotation_period, update_time, version, allowed_networks,
    rate_limits)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (owner_id) DO UPDATE SET
    keys_enabled = $2, max_active_keys = $3, allowed_scopes = $4, max_key_lifetime = $5, expiration_required = $6,
    contacts_required = $7, key_edits = $8, key_managers = $9, brand = $10, rotation_period = $11, update_time = $12,
    version = $13, allowed_networks = $14, rate_limits = $15;

-- name: lock_count
-- Taken before active keys are counted by a change that adds one, or extends the life of one, under a policy with a limit.
SELECT pg_advisory_xact_lock(hashtextextended('active keys of ' || $1, 0));

-- name: count_active
-- How many keys of an owner are active at $2, except $4, at most $5. With $3, those in the grace period of a rotation, without
-- it the others.
SELECT count(*) FROM (
    SELECT FROM authsvc.keys
     WHERE owner_id = $1 AND coalesce(least(expire_time, revoke_time), 'infinity') > $2
       AND (revoke_time <= update_time) IS NOT TRUE
       AND (rotated_to_key_id <> '') = $3 AND key_id <> $4
     LIMIT $5) AS active;
