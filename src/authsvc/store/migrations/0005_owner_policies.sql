-- What an owner may do with API keys. Owners without a row have the operator's default policy, which is a matter of settings.

CREATE TABLE authsvc.owner_policies (
    owner_id            text COLLATE "C" PRIMARY KEY,
    keys_enabled        boolean NOT NULL,
    max_active_keys     integer NOT NULL,                     -- 0: any number
    allowed_scopes      text[] NOT NULL,                      -- sorted; empty: any
    max_key_lifetime    interval NOT NULL,                    -- 0: without limit
    expiration_required boolean NOT NULL,
    contacts_required   boolean NOT NULL,
    key_edits           text NOT NULL CHECK (key_edits IN ('none', 'details', 'all')),
    key_managers        text NOT NULL CHECK (key_managers IN ('any', 'sessions_only')),
    brand               text NOT NULL,                        -- empty: the service's
    update_time         timestamptz NOT NULL,
    version             integer NOT NULL
);

-- What verification needs to know of any credential, as before, and whether the owner's policy has switched keys on;
-- NULL: the owner has none, or it is a session, which no policy concerns.
CREATE OR REPLACE VIEW authsvc.credentials AS
    SELECT 'key' AS kind, k.key_prefix, k.key_id AS credential_id, k.owner_id, k.scopes, k.annotations, k.expire_time,
           k.revoke_time, k.revoke_time <= k.update_time AS revoked_at_once, k.secret_hash, k.secret_origin,
           NULL::timestamptz AS last_activity_time, NULL::interval AS idle_timeout, p.keys_enabled
      FROM authsvc.keys k
      LEFT JOIN authsvc.owner_policies p ON p.owner_id = k.owner_id
    UNION ALL
    SELECT 'session', s.key_prefix, s.session_id, s.owner_id, s.scopes, s.annotations, s.latest_expire_time,
           coalesce(s.revoke_time, e.revoke_time),
           coalesce(s.revoke_time, e.revoke_time) IS NOT NULL, s.secret_hash, 'minted', s.last_activity_time, s.idle_timeout,
           NULL
      FROM authsvc.sessions s
      LEFT JOIN LATERAL (
          SELECT revoke_time FROM authsvc.session_ends
           WHERE owner_id = s.owner_id AND epoch > s.epoch ORDER BY epoch LIMIT 1) e ON true;
