-- Bounds what the role that serves may record, drop and add: events of a sane time and form, no month before the retention that
-- the owner set, no tag key. Each drop leaves an event with a hash over all drops, so that none can be forged beside the chains.

-- How long events are kept at least, as the owner of the schema said last (`authsvc migrate`). 0: for good. No row: 90 days.
CREATE TABLE authsvc.audit_retention (
    retention interval NOT NULL CHECK (retention = interval '0' OR retention >= interval '90 days'),
    is_set    boolean PRIMARY KEY DEFAULT true CHECK (is_set)  -- one row at most
);

-- Returns the time that an event gets for which this one was given. The service's clock is the database's, so they differ by
-- seconds; a refused attempt is as old as the outage that kept it from being written. Any other time is replaced.
CREATE FUNCTION authsvc.audit_time(given timestamptz) RETURNS timestamptz
    LANGUAGE sql VOLATILE
    AS $$ SELECT CASE WHEN given BETWEEN clock_timestamp() - interval '1 day' AND clock_timestamp() + interval '1 hour'
                      THEN given WHEN given IS NOT NULL THEN clock_timestamp() END $$;

-- Does what `record_audit` did before, within bounds; `may_drop` says that the caller is `drop_audit_before`. For functions of the
-- schema only. The bounds are one expression, since each expression costs some microseconds for each call.
CREATE FUNCTION authsvc.append_audit(events jsonb, may_drop boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
    DECLARE
        given    record;
        head     authsvc.audit_heads%ROWTYPE;
        new_hash bytea;
        chained  authsvc.audit_events[] := '{}';
    BEGIN
        FOR given IN
            SELECT e.value ->> 'owner_id' AS owner_id, (e.value ->> 'event_time')::timestamptz AS event_time,
                   e.value ->> 'event_id' AS event_id, e.value ->> 'action' AS action, e.value ->> 'actor_id' AS actor_id,
                   e.value ->> 'actor_owner_id' AS actor_owner_id, e.value ->> 'actor_type' AS actor_type,
                   e.value ->> 'target_id' AS target_id, e.value ->> 'client_ip' AS client_ip, e.value ->> 'request_id' AS request_id,
                   e.value -> 'details' AS details,
                   (SELECT coalesce(string_agg(authsvc.netstring(d.key) || authsvc.netstring(d.value), '' ORDER BY d.key COLLATE "C"), '')
                      FROM jsonb_each_text(e.value -> 'details') AS d) AS told
              FROM jsonb_array_elements(events) WITH ORDINALITY AS e
             ORDER BY e.value ->> 'owner_id' COLLATE "C", e.ordinality
        LOOP
            IF head.owner_id IS DISTINCT FROM given.owner_id THEN
                IF head.owner_id IS NOT NULL THEN
                    UPDATE authsvc.audit_heads h SET position = head.position, hash = head.hash, event_time = head.event_time
                     WHERE h.owner_id = head.owner_id;
                END IF;
                SELECT * INTO head FROM authsvc.audit_heads h WHERE h.owner_id = given.owner_id FOR UPDATE;
                IF NOT FOUND THEN
                    IF (given.owner_id !~ '[^A-Za-z0-9._:@-]' AND length(given.owner_id) BETWEEN 1 AND 128) IS NOT TRUE THEN
                        RAISE EXCEPTION 'owner_id of an audit event: use 1 to 128 characters of A-Z a-z 0-9 . _ : @ -'
                            USING ERRCODE = 'invalid_parameter_value';
                    END IF;
                    INSERT INTO authsvc.audit_heads VALUES (given.owner_id, 0, decode(repeat('00', 32), 'hex'), '-infinity')
                        ON CONFLICT DO NOTHING;
                    SELECT * INTO STRICT head FROM authsvc.audit_heads h WHERE h.owner_id = given.owner_id FOR UPDATE;
                END IF;
            END IF;
            IF (given.event_id || given.action !~ '[^!-~]' AND given.event_time IS NOT NULL
                AND octet_length(given.event_id || given.action || given.actor_id || given.actor_owner_id || given.actor_type
                                 || given.target_id || given.client_ip || given.request_id || given.told) <= 32768
                AND (given.action <> 'EVENTS_DROPPED' OR may_drop)
                AND (given.details = '{}' OR NOT jsonb_path_exists(given.details, 'strict $.* ? (@.type() != "string")'))) IS NOT TRUE THEN
                RAISE EXCEPTION 'an audit event is refused: event_id and action have to be printable ASCII, details an object of texts, '
                                'all texts 32 KiB at most together, and no field null; EVENTS_DROPPED is recorded by the schema alone'
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            head.event_time := greatest(authsvc.audit_time(given.event_time), head.event_time);
            new_hash := sha256(convert_to(
                '15:authsvc audit 1,64:' || encode(head.hash, 'hex') || ',' || authsvc.netstring(given.owner_id)
                || authsvc.netstring((head.position + 1)::text) || length(given.event_id) || ':' || given.event_id || ','
                || authsvc.netstring(((extract(epoch FROM head.event_time) * 1000000)::bigint)::text)
                || length(given.action) || ':' || given.action || ',' || authsvc.netstring(given.actor_id)
                || authsvc.netstring(given.actor_owner_id) || authsvc.netstring(given.actor_type) || authsvc.netstring(given.target_id)
                || authsvc.netstring(given.client_ip) || authsvc.netstring(given.request_id) || given.told, 'UTF8'));
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

CREATE OR REPLACE FUNCTION authsvc.record_audit(events jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN PERFORM authsvc.append_audit(events, false); END $$;

-- Records that events before a month were dropped, with a hash over all rows of `audit_drops`: over the hash so far (32 zeros
-- at first), owner, position and hash of each row, in the order of owners, as netstrings.
CREATE FUNCTION authsvc.record_drop(before text, counted bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
    DECLARE
        dropped authsvc.audit_drops%ROWTYPE;
        digest  bytea := decode(repeat('00', 32), 'hex');
    BEGIN
        FOR dropped IN SELECT * FROM authsvc.audit_drops ORDER BY owner_id LOOP
            digest := sha256(convert_to(
                authsvc.netstring(encode(digest, 'hex')) || authsvc.netstring(dropped.owner_id)
                || authsvc.netstring(dropped.position::text) || authsvc.netstring(encode(dropped.hash, 'hex')), 'UTF8'));
        END LOOP;
        -- From here on nobody records: others lock heads before they insert events.
        LOCK TABLE authsvc.audit_heads IN EXCLUSIVE MODE;
        PERFORM authsvc.append_audit(jsonb_build_array(jsonb_build_object(
            'owner_id', 'authsvc', 'event_time', clock_timestamp(), 'event_id', 'evt_' || replace(gen_random_uuid()::text, '-', ''),
            'action', 'EVENTS_DROPPED', 'actor_id', 'retention', 'actor_owner_id', 'authsvc', 'actor_type', '', 'target_id', '',
            'client_ip', '', 'request_id', '',
            'details', jsonb_build_object('before', before, 'count', counted::text, 'drops', encode(digest, 'hex')))), true);
    END $$;

-- As before, but nothing goes that is younger than the owner of the schema wants it kept.
CREATE OR REPLACE FUNCTION authsvc.drop_audit_before(month date) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s'
    AS $$
    DECLARE
        first   date := date_trunc('month', month);
        kept    interval := coalesce((SELECT retention FROM authsvc.audit_retention), interval '90 days');
        old     regclass[];
        part    regclass;
        counted bigint;
    BEGIN
        IF first > clock_timestamp() - interval '90 days' THEN
            RAISE EXCEPTION 'no event is dropped before it is 90 days old' USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF kept = interval '0' OR first > clock_timestamp() - kept THEN
            RAISE EXCEPTION 'events from before % are kept: the retention in authsvc.audit_retention is %', first,
                            CASE WHEN kept = interval '0' THEN 'for good' ELSE kept::text END
                USING ERRCODE = 'invalid_parameter_value',
                      HINT = 'Run `authsvc migrate` as the owner of the schema, with AUTHSVC_AUDIT_RETENTION set to the shorter one.';
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
        -- Last, when all that takes long is done: a table is dropped when nobody inserts.
        IF counted > 0 THEN
            PERFORM authsvc.record_drop(first::text, counted);
        ELSE
            LOCK TABLE authsvc.audit_heads IN EXCLUSIVE MODE;
        END IF;
        FOREACH part IN ARRAY old LOOP
            EXECUTE format('DROP TABLE %s', part);
        END LOOP;
        RETURN counted;
    END $$;

-- What was dropped up to now gets an event with its hash, too. `before` is what the last event about it said.
SELECT authsvc.record_drop(
           coalesce((SELECT details ->> 'before' FROM authsvc.audit_events WHERE owner_id = 'authsvc' AND action = 'EVENTS_DROPPED'
                      ORDER BY event_time DESC, position DESC LIMIT 1), ''), 0)
 WHERE EXISTS (SELECT FROM authsvc.audit_drops);

-- Lets a role record and read, and no more, whatever it was granted before.
CREATE OR REPLACE FUNCTION authsvc.grant_audit(role name) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        PERFORM authsvc.close_table(relid) FROM pg_partition_tree('authsvc.audit_events');
        PERFORM authsvc.close_table('authsvc.audit_heads');
        PERFORM authsvc.close_table('authsvc.audit_drops');
        PERFORM authsvc.close_table('authsvc.audit_retention');
        EXECUTE format('GRANT SELECT ON authsvc.audit_events, authsvc.audit_heads, authsvc.audit_drops, authsvc.audit_retention TO %I', role);
        EXECUTE format('GRANT EXECUTE ON FUNCTION authsvc.record_audit(jsonb), authsvc.make_audit_month(date), '
                       'authsvc.drop_audit_before(date) TO %I', role);
    END $$;

-- The first tag key, which the first worker made before. 366 random bits of the system, hashed to 256, so that no statement has it.
INSERT INTO authsvc.tag_keys (tag_key_id, tag_key)
SELECT 1, sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
 WHERE NOT EXISTS (SELECT FROM authsvc.tag_keys);

-- Nobody but the owner of the table adds tag keys. Workers of the release before this one insert tag key 1 when they start, which
-- does nothing where it is: they are let do that.
CREATE FUNCTION authsvc.keep_tag_keys() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        IF pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
            RETURN NEW;
        ELSIF NEW.tag_key_id = 1 THEN
            RETURN NULL;
        END IF;
        RAISE EXCEPTION 'tag keys are added by the owner of the schema: authsvc tag-key rotate' USING ERRCODE = 'insufficient_privilege';
    END $$;
CREATE TRIGGER keep_tag_keys BEFORE INSERT ON authsvc.tag_keys FOR EACH ROW EXECUTE FUNCTION authsvc.keep_tag_keys();

REVOKE EXECUTE ON FUNCTION authsvc.audit_time(timestamptz), authsvc.append_audit(jsonb, boolean), authsvc.record_drop(text, bigint),
    authsvc.keep_tag_keys() FROM PUBLIC;
