-- API keys and their last use. Everything lives in a schema of its own, which the role that serves may use but not change.

CREATE TABLE authsvc.keys (
    key_id              text COLLATE "C" PRIMARY KEY,
    owner_id            text COLLATE "C" NOT NULL,
    key_prefix          text COLLATE "C" NOT NULL UNIQUE,
    secret_hash         text NOT NULL,                        -- argon2id; the secret itself is kept nowhere
    secret_origin       text NOT NULL CHECK (secret_origin IN ('minted', 'imported')),
    display_name        text NOT NULL,
    folded_name         text COLLATE "C" NOT NULL,            -- display_name, case-folded: what is sorted and searched
    description         text NOT NULL,
    scopes              text[] NOT NULL,                      -- sorted
    technical_contacts  jsonb NOT NULL,                       -- [{"name": ..., "email": ...}]
    annotations         jsonb NOT NULL,                       -- {"name": "value"}
    create_time         timestamptz NOT NULL,
    creator_id          text COLLATE "C" NOT NULL,
    update_time         timestamptz NOT NULL,
    expire_time         timestamptz,                          -- NULL: never
    revoke_time         timestamptz,                          -- in the future while scheduled
    revoker_id          text NOT NULL,
    revoke_reason       text NOT NULL,
    rotated_from_key_id text NOT NULL,
    rotated_to_key_id   text NOT NULL,
    request_id          text,                                 -- of the create or rotate that made the key
    version             integer NOT NULL
);

CREATE UNIQUE INDEX keys_request ON authsvc.keys (owner_id, request_id) WHERE request_id IS NOT NULL;

-- One index for each order that ListKeys offers; key_id makes each order total, so that pages can resume after a row.
CREATE INDEX keys_by_create_time ON authsvc.keys (owner_id, create_time, key_id);
CREATE INDEX keys_by_name ON authsvc.keys (owner_id, folded_name, key_id);
CREATE INDEX keys_by_expire_time ON authsvc.keys (owner_id, (coalesce(expire_time, 'infinity'::timestamptz)), key_id);

-- One for each filter that no order serves.
CREATE INDEX keys_by_revoke_time ON authsvc.keys (owner_id, revoke_time) WHERE revoke_time IS NOT NULL;
CREATE INDEX keys_by_end_time ON authsvc.keys
    (owner_id, (coalesce(least(expire_time, revoke_time), 'infinity'::timestamptz)));
CREATE INDEX keys_by_creator ON authsvc.keys (owner_id, creator_id, create_time);

-- Words of an owner as numbers, for indexes that find an owner's words and no other's. A number may stand for two
-- words, so what is found is compared with the word itself.
CREATE FUNCTION authsvc.owned(owner_id text, words text[]) RETURNS bigint[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT coalesce(array_agg(hashtextextended(owner_id || ' ' || word, 0)), '{}') FROM unnest(words) AS word $$;
CREATE INDEX keys_by_scope ON authsvc.keys USING gin (authsvc.owned(owner_id, scopes));

-- Any part of a name is found through its trigrams. The extension pg_trgm does this too, but is not everywhere.
CREATE FUNCTION authsvc.trigrams(name text) RETURNS text[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT coalesce(array_agg(DISTINCT substr(name, i, 3)), '{}') FROM generate_series(1, length(name) - 2) AS i $$;
CREATE INDEX keys_by_trigram ON authsvc.keys USING gin (authsvc.owned(owner_id, authsvc.trigrams(folded_name)));

-- Last use changes with every few seconds of traffic, so it stays out of the wide table and its many indexes.
CREATE TABLE authsvc.key_uses (
    key_id        text COLLATE "C" PRIMARY KEY REFERENCES authsvc.keys ON DELETE CASCADE,
    owner_id      text COLLATE "C" NOT NULL,
    last_use_time timestamptz,                                -- NULL: never
    last_use_ip   text NOT NULL DEFAULT ''
) WITH (fillfactor = 70);

CREATE INDEX key_uses_by_time ON authsvc.key_uses (owner_id, (coalesce(last_use_time, '-infinity'::timestamptz)), key_id);

-- A key with its last use, without its proof: what there is to show.
CREATE VIEW authsvc.key_rows AS
    SELECT k.key_id, k.owner_id, k.key_prefix, k.display_name, k.folded_name, k.description, k.scopes,
           k.technical_contacts, k.annotations, k.create_time, k.creator_id, k.update_time, k.expire_time, k.revoke_time,
           k.revoker_id, k.revoke_reason, k.rotated_from_key_id, k.rotated_to_key_id, k.version,
           u.last_use_time, u.last_use_ip,
           u.key_id AS use_key_id                             -- for orders that the index of key_uses serves
      FROM authsvc.keys k JOIN authsvc.key_uses u USING (key_id, owner_id);

-- What every worker needs to recognize the key strings that were minted here.
CREATE TABLE authsvc.tag_keys (
    tag_key_id  smallint PRIMARY KEY,
    tag_key     bytea NOT NULL CHECK (length(tag_key) = 32),
    create_time timestamptz NOT NULL DEFAULT now()
);
