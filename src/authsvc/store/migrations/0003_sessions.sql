-- Sessions: the devices that users are signed in on.

CREATE TABLE authsvc.sessions (
    session_id         text COLLATE "C" PRIMARY KEY,
    owner_id           text COLLATE "C" NOT NULL,
    key_prefix         text COLLATE "C" NOT NULL UNIQUE,
    secret_hash        text NOT NULL,                         -- sha256:…; the secret itself is kept nowhere
    scopes             text[] NOT NULL,                       -- sorted
    annotations        jsonb NOT NULL,                        -- {"name": "value"}
    create_time        timestamptz NOT NULL,
    creator_id         text COLLATE "C" NOT NULL,
    latest_expire_time timestamptz NOT NULL,                  -- however active it is
    idle_timeout       interval NOT NULL,
    last_activity_time timestamptz NOT NULL,
    user_agent         text NOT NULL,                         -- of the last activity, as is ip_address
    ip_address         text NOT NULL,
    is_over            boolean NOT NULL DEFAULT false,        -- somebody was told that it ended for want of activity
    epoch              bigint NOT NULL,                       -- how often all sessions of the owner had been ended before
    revoke_time        timestamptz,                           -- when this one was ended by itself
    revoker_id         text NOT NULL DEFAULT ''
) WITH (fillfactor = 80);                                     -- activity is written in place, so no index has it

CREATE INDEX sessions_by_owner ON authsvc.sessions (owner_id, epoch);

-- All sessions of an owner end by one row, however many there are: those of the epochs before.
CREATE TABLE authsvc.session_ends (
    owner_id    text COLLATE "C" NOT NULL,
    epoch       bigint NOT NULL,                              -- 1 for the first, and so on
    revoke_time timestamptz NOT NULL,
    revoker_id  text NOT NULL,
    PRIMARY KEY (owner_id, epoch)
);

-- A session without its proof: what there is to show.
CREATE VIEW authsvc.session_rows AS
    SELECT s.session_id, s.owner_id, s.key_prefix, s.scopes, s.annotations, s.create_time, s.creator_id,
           s.latest_expire_time, s.idle_timeout, s.last_activity_time, s.user_agent, s.ip_address, s.epoch,
           coalesce(s.revoke_time, e.revoke_time) AS revoke_time,
           CASE WHEN s.revoke_time IS NULL THEN coalesce(e.revoker_id, '') ELSE s.revoker_id END AS revoker_id
      FROM authsvc.sessions s
      LEFT JOIN LATERAL (
          SELECT revoke_time, revoker_id FROM authsvc.session_ends
           WHERE owner_id = s.owner_id AND epoch > s.epoch ORDER BY epoch LIMIT 1) e ON true;

-- What verification needs to know of any credential, keys and sessions alike.
CREATE VIEW authsvc.credentials AS
    SELECT 'key' AS kind, key_prefix, key_id AS credential_id, owner_id, scopes, annotations, expire_time, revoke_time,
           revoke_time <= update_time AS revoked_at_once, secret_hash, secret_origin,
           NULL::timestamptz AS last_activity_time, NULL::interval AS idle_timeout
      FROM authsvc.keys
    UNION ALL
    SELECT 'session', s.key_prefix, s.session_id, s.owner_id, s.scopes, s.annotations, s.latest_expire_time,
           coalesce(s.revoke_time, e.revoke_time),
           coalesce(s.revoke_time, e.revoke_time) IS NOT NULL, s.secret_hash, 'minted', s.last_activity_time, s.idle_timeout
      FROM authsvc.sessions s
      LEFT JOIN LATERAL (
          SELECT revoke_time FROM authsvc.session_ends
           WHERE owner_id = s.owner_id AND epoch > s.epoch ORDER BY epoch LIMIT 1) e ON true;

-- An entry about all of an owner may be about one kind of credential only.
ALTER TABLE authsvc.feed ADD COLUMN kind text CHECK (kind IN ('key', 'session'));

-- Work that one worker of all replicas does at a time: whoever holds the lock of its row.
CREATE TABLE authsvc.jobs (
    job       text PRIMARY KEY,
    next_time timestamptz NOT NULL DEFAULT '-infinity',       -- when it is due
    position  text COLLATE "C" NOT NULL DEFAULT ''            -- up to where it has come
);

INSERT INTO authsvc.jobs (job) VALUES ('purge');
