-- What contacts and webhooks are told. docs/notifications.md says how. The tables are large, and what waits is a small part at the
-- end of an index. Every look passes the entries of what has ended since the last vacuum, so that comes early.

-- The outbox: one row for each thing to tell. The trigger below inserts it in the transaction that makes the change. What it says
-- of the target is a copy, because the target may be deleted before anybody is told.
CREATE TABLE authsvc.notifications (
    notification_id text COLLATE "C" PRIMARY KEY,             -- of a change: the id of its audit event
    number          bigint GENERATED ALWAYS AS IDENTITY,      -- roughly in the order of commits
    type            text NOT NULL,                            -- key.created, key.revoked, ...
    owner_id        text COLLATE "C" NOT NULL,
    event_time      timestamptz NOT NULL,
    position        bigint,                                   -- of the event in its owner's chain; NULL: a warning, which is no event
    target_id       text COLLATE "C" NOT NULL,
    actor_id        text NOT NULL,
    actor_owner_id  text NOT NULL,
    actor_type      text NOT NULL,
    details         jsonb NOT NULL,                           -- those of the event
    subject         jsonb NOT NULL,                           -- of the target, after the change: what is shown of it
    contacts        jsonb NOT NULL,                           -- of the target: [{"name": ..., "email": ...}]
    spread_time     timestamptz                               -- when its recipients were written down; NULL: not yet
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX notifications_by_spread_time ON authsvc.notifications (spread_time, number);

-- One row for each notification and address.
CREATE TABLE authsvc.mails (
    mail_number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    notification_id text COLLATE "C" NOT NULL REFERENCES authsvc.notifications ON DELETE CASCADE,
    owner_id        text COLLATE "C" NOT NULL,
    address         text COLLATE "C" NOT NULL,
    -- Whose limit the address counts for: most servers deliver Ann@, ann@ and ann+x@ to one person.
    inbox           text COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(regexp_replace(address, '[+][^@]*@', '@'))) STORED,
    contact_name    text NOT NULL,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'failed')),
    message_id      text COLLATE "C" NOT NULL DEFAULT '',     -- of the message that it is part of, from the first claim on
    attempt_count   integer NOT NULL DEFAULT 0,
    create_time     timestamptz NOT NULL,
    next_time       timestamptz NOT NULL,                     -- of the next attempt; while one is made, when it counts as lost
    attempt_time    timestamptz,                              -- of the last attempt
    first_attempt_time timestamptz,                           -- of the first one, also if the server was out of reach
    reply_code      integer NOT NULL DEFAULT 0,               -- of the mail server at the last attempt; 0: none
    error           text NOT NULL DEFAULT '',                 -- why the last attempt failed
    UNIQUE (notification_id, address)
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX mails_pending ON authsvc.mails (next_time) WHERE state = 'pending';
CREATE INDEX mails_to_combine ON authsvc.mails (address, mail_number) WHERE state = 'pending' AND message_id = '';
CREATE INDEX mails_by_inbox ON authsvc.mails (inbox, attempt_time);
CREATE INDEX mails_by_owner ON authsvc.mails (owner_id, attempt_time);
CREATE INDEX mails_new_by_owner ON authsvc.mails (owner_id, mail_number) WHERE state = 'pending' AND message_id = '';
CREATE INDEX mails_pending_by_message ON authsvc.mails (message_id) WHERE state = 'pending';
CREATE INDEX mails_failed ON authsvc.mails (mail_number) WHERE state = 'failed';

CREATE TABLE authsvc.webhooks (
    webhook_id         text COLLATE "C" PRIMARY KEY,
    owner_id           text COLLATE "C" NOT NULL,             -- authsvc: it is told of all owners
    url                text NOT NULL,
    description        text NOT NULL,
    event_types        text[] NOT NULL,                       -- sorted; empty: all
    technical_contacts jsonb NOT NULL,                        -- [{"name": ..., "email": ...}]
    enabled            boolean NOT NULL,
    disable_reason     text NOT NULL DEFAULT '' CHECK (disable_reason IN ('', 'gone', 'failing')),  -- empty: by its owner
    create_time        timestamptz NOT NULL,
    creator_id         text NOT NULL,
    update_time        timestamptz NOT NULL,
    version            integer NOT NULL,
    -- What its secrets are derived from, the newest first: [{"generation": 2, "key_id": ..., "expire_time": null}]. No secret is
    -- stored. Those after the first one sign, too, until they expire.
    secrets            jsonb NOT NULL,
    failing_since      timestamptz,                           -- the first failure since the last success
    warn_time          timestamptz,                           -- when its owner was warned of that
    line_time          timestamptz NOT NULL,                  -- its deliveries are not looked at before
    held_until         timestamptz                            -- while a worker makes its deliveries: when that worker counts as lost
);
CREATE INDEX webhooks_by_owner ON authsvc.webhooks (owner_id, webhook_id);

-- One row for each notification and webhook.
CREATE TABLE authsvc.webhook_deliveries (
    delivery_id     text COLLATE "C" PRIMARY KEY,             -- in the order of creation
    webhook_id      text COLLATE "C" NOT NULL REFERENCES authsvc.webhooks ON DELETE CASCADE,
    notification_id text COLLATE "C" NOT NULL REFERENCES authsvc.notifications ON DELETE CASCADE,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempt_count   integer NOT NULL DEFAULT 0,
    create_time     timestamptz NOT NULL,
    next_time       timestamptz NOT NULL,                     -- of the next attempt
    attempt_time    timestamptz,                              -- of the last attempt
    response_status integer NOT NULL DEFAULT 0,               -- of HTTP at the last attempt; 0: no response
    error           text NOT NULL DEFAULT '',                 -- why the last attempt failed
    UNIQUE (notification_id, webhook_id)
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX webhook_deliveries_of_webhook ON authsvc.webhook_deliveries (webhook_id, state, delivery_id);
CREATE INDEX webhook_deliveries_pending ON authsvc.webhook_deliveries (webhook_id, delivery_id) INCLUDE (next_time)
    WHERE state = 'pending';
CREATE INDEX webhook_deliveries_failed ON authsvc.webhook_deliveries (delivery_id) WHERE state = 'failed';

-- The warnings about a key that were given: one row for each kind and threshold.
CREATE TABLE authsvc.key_warnings (
    key_id         text COLLATE "C" NOT NULL REFERENCES authsvc.keys ON DELETE CASCADE,
    kind           text NOT NULL,                             -- key.expiring, key.expired, key.unused, key.rotation_due
    threshold_days integer NOT NULL,                          -- 0 where a kind has one only
    about_time     timestamptz NOT NULL,                      -- the expiry, last use or time of rotation that it was about
    warn_time      timestamptz NOT NULL,
    PRIMARY KEY (key_id, kind, threshold_days)
);

-- After this, a key is due to be rotated; 0: never.
ALTER TABLE authsvc.owner_policies ADD COLUMN rotation_period interval NOT NULL DEFAULT interval '90 days';

INSERT INTO authsvc.jobs (job) VALUES ('notifications'), ('mails'), ('key_warnings'), ('notification_purge');

-- What is shown of a key. No secret, and no proof of one.
CREATE FUNCTION authsvc.key_subject(
    key_id text, display_name text, key_prefix text, create_time timestamptz, expire_time timestamptz, revoke_time timestamptz,
    last_use_time timestamptz, rotated_to_key_id text) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
        SELECT jsonb_build_object(
            'key_id', key_id, 'display_name', display_name, 'key_prefix', key_prefix, 'create_time', create_time,
            'expire_time', expire_time, 'revoke_time', revoke_time, 'last_use_time', last_use_time,
            'rotated_to_key_id', rotated_to_key_id);
    $$;

-- Inserts a notification for each recorded event that somebody may want to know of. Each is looked up by itself, so that a batch of
-- any size uses the index.
CREATE FUNCTION authsvc.notify_of_events() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        INSERT INTO authsvc.notifications (
            notification_id, type, owner_id, event_time, position, target_id, actor_id, actor_owner_id, actor_type, details, subject,
            contacts)
        SELECT e.event_id,
               CASE e.action WHEN 'KEY_CREATED' THEN 'key.created' WHEN 'KEY_UPDATED' THEN 'key.updated'
                    WHEN 'KEY_ROTATED' THEN 'key.rotated' WHEN 'KEY_REVOKED' THEN 'key.revoked'
                    WHEN 'KEY_DELETED' THEN 'key.deleted' WHEN 'OWNER_KEYS_REVOKED' THEN 'key.revoked'
                    WHEN 'SESSION_CREATED' THEN 'session.created' ELSE 'policy.updated' END,
               e.owner_id, e.event_time, e.position, e.target_id, e.actor_id, e.actor_owner_id, e.actor_type, e.details,
               coalesce(k.subject, s.subject, '{}'), coalesce(k.technical_contacts, '[]')
          FROM recorded e
          LEFT JOIN LATERAL (
              SELECT authsvc.key_subject(k.key_id, k.display_name, k.key_prefix, k.create_time, k.expire_time, k.revoke_time,
                                         u.last_use_time, k.rotated_to_key_id) AS subject,
                     k.technical_contacts
                FROM authsvc.keys k LEFT JOIN authsvc.key_uses u ON u.key_id = k.key_id
               WHERE k.key_id = e.target_id LIMIT 1) AS k ON e.action LIKE 'KEY\_%'
          LEFT JOIN LATERAL (
              SELECT jsonb_build_object('session_id', s.session_id, 'user_agent', s.user_agent, 'client_hints', s.client_hints,
                                        'ip_address', s.ip_address, 'create_time', s.create_time) AS subject
                FROM authsvc.sessions s WHERE s.session_id = e.target_id LIMIT 1) AS s ON e.action = 'SESSION_CREATED'
         WHERE e.action IN ('KEY_CREATED', 'KEY_UPDATED', 'KEY_ROTATED', 'KEY_REVOKED', 'KEY_DELETED', 'OWNER_KEYS_REVOKED',
                            'SESSION_CREATED', 'OWNER_POLICY_UPDATED')
            ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$;

-- Otherwise whoever may use the schema could make it the trigger of a table of their own, and tell what they like.
REVOKE EXECUTE ON FUNCTION authsvc.notify_of_events() FROM PUBLIC;

-- Once for each statement. Partitions need no trigger of their own: nothing else inserts into the log, and what moves between
-- partitions was told of before.
CREATE TRIGGER notify AFTER INSERT ON authsvc.audit_events REFERENCING NEW TABLE AS recorded
    FOR EACH STATEMENT EXECUTE FUNCTION authsvc.notify_of_events();

-- For those who may create keys.
DO $$
    DECLARE
        grantee regrole;
    BEGIN
        FOR grantee IN
            SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) AS a
             WHERE c.oid = 'authsvc.keys'::regclass AND a.privilege_type = 'INSERT' AND a.grantee <> 0
        LOOP
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON authsvc.notifications, authsvc.mails, authsvc.webhooks, '
                           'authsvc.webhook_deliveries, authsvc.key_warnings TO %s', grantee);
        END LOOP;
    END $$;
