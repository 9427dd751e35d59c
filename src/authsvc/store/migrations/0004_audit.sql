-- The audit log: a chain of events for each owner, which the role that serves can lengthen and not change. docs/audit.md
-- says how events are hashed, and what shows.

CREATE TABLE authsvc.audit_events (
    owner_id       text COLLATE "C" NOT NULL,
    event_time     timestamptz NOT NULL,                      -- never before that of the event before
    position       bigint NOT NULL CHECK (position > 0),      -- in the chain of the owner
    event_id       text COLLATE "C" NOT NULL,
    action         text COLLATE "C" NOT NULL,
    actor_id       text COLLATE "C" NOT NULL,
    actor_owner_id text NOT NULL,
    actor_type     text NOT NULL,
    target_id      text COLLATE "C" NOT NULL,
    client_ip      text NOT NULL,
    request_id     text NOT NULL,
    details        jsonb NOT NULL,                            -- {"name": "value"}
    previous_hash  bytea NOT NULL,                            -- of the event before
    hash           bytea NOT NULL,
    PRIMARY KEY (owner_id, event_time, position)
) PARTITION BY RANGE (event_time);

-- One for each filter that few events may pass; a list without them, or of a time, goes by the primary key.
CREATE INDEX ON authsvc.audit_events (owner_id, action, event_time, position);
CREATE INDEX ON authsvc.audit_events (owner_id, actor_id, action, event_time, position);
CREATE INDEX ON authsvc.audit_events (owner_id, target_id, event_time, position);

-- A month has a partition; an event of a month that has none yet is in this one, so that no change fails for want of it.
CREATE TABLE authsvc.audit_events_default PARTITION OF authsvc.audit_events DEFAULT;

-- The newest event of each owner. Its row lock makes the order of positions the order of commits, without gaps.
CREATE TABLE authsvc.audit_heads (
    owner_id   text COLLATE "C" PRIMARY KEY,
    position   bigint NOT NULL,
    hash       bytea NOT NULL,
    event_time timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The last event of each owner that was dropped with its month.
CREATE TABLE authsvc.audit_drops (
    owner_id  text COLLATE "C" PRIMARY KEY,
    position  bigint NOT NULL,
    hash      bytea NOT NULL,
    drop_time timestamptz NOT NULL
);

INSERT INTO authsvc.jobs (job) VALUES ('audit');

-- Leaves nobody but its owner any right on a table but that to read it, whatever default privileges have given.
CREATE FUNCTION authsvc.close_table(closed regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        granted record;
    BEGIN
        FOR granted IN SELECT DISTINCT a.privilege_type, coalesce(quote_ident(r.rolname), 'PUBLIC') AS grantee
                         FROM pg_class c CROSS JOIN aclexplode(c.relacl) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee
                        WHERE c.oid = closed AND a.grantee <> c.relowner AND a.privilege_type <> 'SELECT' LOOP
            EXECUTE format('REVOKE %s ON %s FROM %s CASCADE', granted.privilege_type, closed, granted.grantee);
        END LOOP;
    END $$;

-- A netstring, <octets>:<text>,
CREATE FUNCTION authsvc.netstring(field text) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    AS $$ SELECT octet_length(convert_to(field, 'UTF8'))::text || ':' || field || ',' $$;

-- Records events, each at the end of its owner's chain. It locks the heads in the order of owners, so that two of these
-- cannot deadlock. An event is an object with all columns but position and hashes; one from a clock that is behind gets the time
-- of the event before. It is hashed as its fields as netstrings, one after the other, in one expression, and all are inserted
-- by one statement: a statement for each would take most of the time.
CREATE FUNCTION authsvc.record_audit(events jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        given    record;
        head     authsvc.audit_heads%ROWTYPE;
        new_hash bytea;
        chained  authsvc.audit_events[] := '{}';
    BEGIN
        FOR given IN
            SELECT e.*, (SELECT coalesce(string_agg(authsvc.netstring(d.key) || authsvc.netstring(d.value), '' ORDER BY d.key COLLATE "C"), '')
                           FROM jsonb_each_text(e.details) AS d) AS told
              FROM ROWS FROM (jsonb_to_recordset(events) AS (
                       owner_id text, event_time timestamptz, event_id text, action text, actor_id text, actor_owner_id text,
                       actor_type text, target_id text, client_ip text, request_id text, details jsonb)) WITH ORDINALITY AS e
             ORDER BY e.owner_id COLLATE "C", e.ordinality
        LOOP
            IF head.owner_id IS DISTINCT FROM given.owner_id THEN
                IF head.owner_id IS NOT NULL THEN
                    UPDATE authsvc.audit_heads h SET position = head.position, hash = head.hash, event_time = head.event_time
                     WHERE h.owner_id = head.owner_id;
                END IF;
                SELECT * INTO head FROM authsvc.audit_heads h WHERE h.owner_id = given.owner_id FOR UPDATE;
                IF NOT FOUND THEN
                    INSERT INTO authsvc.audit_heads VALUES (given.owner_id, 0, decode(repeat('00', 32), 'hex'), '-infinity')
                        ON CONFLICT DO NOTHING;
                    SELECT * INTO STRICT head FROM authsvc.audit_heads h WHERE h.owner_id = given.owner_id FOR UPDATE;
                END IF;
            END IF;
            head.event_time := CASE WHEN given.event_time < head.event_time THEN head.event_time ELSE given.event_time END;
            new_hash := sha256(convert_to(
                '15:authsvc audit 1,' || authsvc.netstring(encode(head.hash, 'hex')) || authsvc.netstring(given.owner_id)
                || authsvc.netstring((head.position + 1)::text) || authsvc.netstring(given.event_id)
                || authsvc.netstring(((extract(epoch FROM head.event_time) * 1000000)::bigint)::text) || authsvc.netstring(given.action)
                || authsvc.netstring(given.actor_id) || authsvc.netstring(given.actor_owner_id) || authsvc.netstring(given.actor_type)
                || authsvc.netstring(given.target_id) || authsvc.netstring(given.client_ip) || authsvc.netstring(given.request_id)
                || given.told, 'UTF8'));
            chained := chained || ROW(
                given.owner_id, head.event_time, head.position + 1, given.event_id, given.action, given.actor_id,
                given.actor_owner_id, given.actor_type, given.target_id, given.client_ip, given.request_id, given.details,
                head.hash, new_hash)::authsvc.audit_events;
            head.position := head.position + 1;
            head.hash := new_hash;
        END LOOP;
        INSERT INTO authsvc.audit_events SELECT * FROM unnest(chained);
        UPDATE authsvc.audit_heads h SET position = head.position, hash = head.hash, event_time = head.event_time
         WHERE h.owner_id = head.owner_id;
    END $$;

-- Makes the partition of a month (in UTC) unless it is there; what has gone to the default one meanwhile moves. Returns whether it was made.
CREATE FUNCTION authsvc.make_audit_month(month date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s'
    AS $$
    DECLARE
        first date := date_trunc('month', month);
        next  date := date_trunc('month', month) + interval '1 month';
        name  text := 'audit_events_' || to_char(date_trunc('month', month), 'YYYYMM');
    BEGIN
        IF first < clock_timestamp() - interval '10 years' OR first > clock_timestamp() + interval '1 year' THEN
            RAISE EXCEPTION 'no partition is made for %', to_char(first, 'YYYY-MM') USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF to_regclass('authsvc.' || name) IS NOT NULL THEN
            RETURN false;
        END IF;
        LOCK TABLE authsvc.audit_events_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE authsvc.%I (LIKE authsvc.audit_events INCLUDING ALL)', name);
        PERFORM authsvc.close_table(('authsvc.' || name)::regclass);
        EXECUTE format('WITH moved AS (DELETE FROM authsvc.audit_events_default WHERE event_time >= %L AND event_time < %L RETURNING *) '
                       'INSERT INTO authsvc.%I SELECT * FROM moved', first, next, name);
        EXECUTE format('ALTER TABLE authsvc.audit_events ATTACH PARTITION authsvc.%I FOR VALUES FROM (%L) TO (%L)', name, first, next);
        RETURN true;
    END $$;

-- Drops all events before a month (in UTC), which has to be 90 days ago at least; notes for each owner where its chain goes
-- on, and in the platform's chain that this was done. Returns how many there were.
CREATE FUNCTION authsvc.drop_audit_before(month date) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s'
    AS $$
    DECLARE
        first   date := date_trunc('month', month);
        old     regclass[];
        part    regclass;
        counted bigint;
    BEGIN
        IF first > clock_timestamp() - interval '90 days' THEN
            RAISE EXCEPTION 'no event is dropped before it is 90 days old' USING ERRCODE = 'invalid_parameter_value';
        END IF;
        SELECT coalesce(array_agg(inhrelid::regclass ORDER BY inhrelid), '{}') INTO old FROM pg_inherits, pg_class c
         WHERE inhparent = 'authsvc.audit_events'::regclass AND c.oid = inhrelid AND c.relname ~ '^audit_events_[0-9]{6}$'
           AND c.relname < 'audit_events_' || to_char(first, 'YYYYMM');
        -- Nothing that is not noted is dropped.
        FOREACH part IN ARRAY old || 'authsvc.audit_events_default'::regclass LOOP
            EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', part);
        END LOOP;
        SELECT count(*) INTO counted FROM authsvc.audit_events WHERE event_time < first;
        INSERT INTO authsvc.audit_drops
            SELECT DISTINCT ON (owner_id) owner_id, position, hash, clock_timestamp() FROM authsvc.audit_events
             WHERE event_time < first ORDER BY owner_id, event_time DESC, position DESC
            ON CONFLICT (owner_id) DO UPDATE SET position = excluded.position, hash = excluded.hash, drop_time = excluded.drop_time;
        DELETE FROM authsvc.audit_events_default WHERE event_time < first;
        -- Last, when all that takes long is done. Others lock heads before they insert events: who does that now is waited for,
        -- since a table is dropped when nobody inserts.
        LOCK TABLE authsvc.audit_heads IN EXCLUSIVE MODE;
        IF counted > 0 THEN
            PERFORM authsvc.record_audit(jsonb_build_array(jsonb_build_object(
                'owner_id', 'authsvc', 'event_time', clock_timestamp(), 'event_id', 'evt_' || replace(gen_random_uuid()::text, '-', ''),
                'action', 'EVENTS_DROPPED', 'actor_id', 'retention', 'actor_owner_id', 'authsvc', 'actor_type', '', 'target_id', '',
                'client_ip', '', 'request_id', '', 'details', jsonb_build_object('before', first::text, 'count', counted::text))));
        END IF;
        FOREACH part IN ARRAY old LOOP
            EXECUTE format('DROP TABLE %s', part);
        END LOOP;
        RETURN counted;
    END $$;

-- Lets a role record and read, and no more, whatever it was granted before.
CREATE FUNCTION authsvc.grant_audit(role name) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        PERFORM authsvc.close_table(relid) FROM pg_partition_tree('authsvc.audit_events');
        PERFORM authsvc.close_table('authsvc.audit_heads');
        PERFORM authsvc.close_table('authsvc.audit_drops');
        EXECUTE format('GRANT SELECT ON authsvc.audit_events, authsvc.audit_heads, authsvc.audit_drops TO %I', role);
        EXECUTE format('GRANT EXECUTE ON FUNCTION authsvc.record_audit(jsonb), authsvc.make_audit_month(date), '
                       'authsvc.drop_audit_before(date) TO %I', role);
    END $$;

REVOKE EXECUTE ON FUNCTION authsvc.record_audit(jsonb), authsvc.make_audit_month(date), authsvc.drop_audit_before(date),
    authsvc.grant_audit(name), authsvc.close_table(regclass) FROM PUBLIC;

-- Last month's, for clocks that are behind; then job `audit` goes on.
SELECT authsvc.make_audit_month((date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month')::date) FROM generate_series(-1, 3) AS n;
