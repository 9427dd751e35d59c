-- Names columns in the functions of the audit log, as all other statements do: these read, cast and inserted whole rows, which
-- fails as soon as a later migration adds a column, before the functions are replaced. What they do is the same.

-- As before. An event is inserted from its JSON and its place in the chain, which is in arrays: one append costs a microsecond, and
-- one for each column would cost more than to read the JSON twice.
CREATE OR REPLACE FUNCTION authsvc.append_audit(events jsonb, may_drop boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
    #variable_conflict use_column
    DECLARE
        given           record;
        head_owner      text;
        head_position   bigint;
        head_hash       bytea;
        head_time       timestamptz;
        numbers         bigint[] := '{}';                     -- in `events`
        times           timestamptz[] := '{}';
        positions       bigint[] := '{}';
        previous_hashes bytea[] := '{}';
        hashes          bytea[] := '{}';
    BEGIN
        FOR given IN
            SELECT e.ordinality, e.value ->> 'owner_id' AS owner_id, (e.value ->> 'event_time')::timestamptz AS event_time,
                   e.value ->> 'event_id' AS event_id, e.value ->> 'action' AS action, e.value ->> 'actor_id' AS actor_id,
                   e.value ->> 'actor_owner_id' AS actor_owner_id, e.value ->> 'actor_type' AS actor_type,
                   e.value ->> 'target_id' AS target_id, e.value ->> 'client_ip' AS client_ip, e.value ->> 'request_id' AS request_id,
                   e.value -> 'details' AS details,
                   (SELECT coalesce(string_agg(authsvc.netstring(d.key) || authsvc.netstring(d.value), '' ORDER BY d.key COLLATE "C"), '')
                      FROM jsonb_each_text(e.value -> 'details') AS d) AS told
              FROM jsonb_array_elements(events) WITH ORDINALITY AS e
             ORDER BY e.value ->> 'owner_id' COLLATE "C", e.ordinality
        LOOP
            IF head_owner IS DISTINCT FROM given.owner_id THEN
                IF head_owner IS NOT NULL THEN
                    UPDATE authsvc.audit_heads h SET position = head_position, hash = head_hash, event_time = head_time
                     WHERE h.owner_id = head_owner;
                END IF;
                SELECT h.owner_id, h.position, h.hash, h.event_time INTO head_owner, head_position, head_hash, head_time
                  FROM authsvc.audit_heads h WHERE h.owner_id = given.owner_id FOR UPDATE;
                IF NOT FOUND THEN
                    IF (given.owner_id !~ '[^A-Za-z0-9._:@-]' AND length(given.owner_id) BETWEEN 1 AND 128) IS NOT TRUE THEN
                        RAISE EXCEPTION 'owner_id of an audit event: use 1 to 128 characters of A-Z a-z 0-9 . _ : @ -'
                            USING ERRCODE = 'invalid_parameter_value';
                    END IF;
                    INSERT INTO authsvc.audit_heads (owner_id, position, hash, event_time)
                        VALUES (given.owner_id, 0, decode(repeat('00', 32), 'hex'), '-infinity') ON CONFLICT DO NOTHING;
                    SELECT h.owner_id, h.position, h.hash, h.event_time INTO STRICT head_owner, head_position, head_hash, head_time
                      FROM authsvc.audit_heads h WHERE h.owner_id = given.owner_id FOR UPDATE;
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
            head_time := greatest(authsvc.audit_time(given.event_time), head_time);
            head_position := head_position + 1;
            numbers := array_append(numbers, given.ordinality);
            times := array_append(times, head_time);
            positions := array_append(positions, head_position);
            previous_hashes := array_append(previous_hashes, head_hash);
            head_hash := sha256(convert_to(
                '15:authsvc audit 1,64:' || encode(head_hash, 'hex') || ',' || authsvc.netstring(given.owner_id)
                || authsvc.netstring(head_position::text) || length(given.event_id) || ':' || given.event_id || ','
                || authsvc.netstring(((extract(epoch FROM head_time) * 1000000)::bigint)::text)
                || length(given.action) || ':' || given.action || ',' || authsvc.netstring(given.actor_id)
                || authsvc.netstring(given.actor_owner_id) || authsvc.netstring(given.actor_type) || authsvc.netstring(given.target_id)
                || authsvc.netstring(given.client_ip) || authsvc.netstring(given.request_id) || given.told, 'UTF8'));
            hashes := array_append(hashes, head_hash);
        END LOOP;
        INSERT INTO authsvc.audit_events (
            owner_id, event_time, position, event_id, action, actor_id, actor_owner_id, actor_type, target_id, client_ip,
            request_id, details, previous_hash, hash)
        SELECT e.value ->> 'owner_id', c.event_time, c.position, e.value ->> 'event_id', e.value ->> 'action', e.value ->> 'actor_id',
               e.value ->> 'actor_owner_id', e.value ->> 'actor_type', e.value ->> 'target_id', e.value ->> 'client_ip',
               e.value ->> 'request_id', e.value -> 'details', c.previous_hash, c.hash
          FROM unnest(numbers, times, positions, previous_hashes, hashes) AS c (number, event_time, position, previous_hash, hash)
         CROSS JOIN LATERAL (SELECT events -> (c.number - 1)::integer AS value OFFSET 0) AS e;
        UPDATE authsvc.audit_heads h SET position = head_position, hash = head_hash, event_time = head_time
         WHERE h.owner_id = head_owner;
    END $$;

-- As before.
CREATE OR REPLACE FUNCTION authsvc.record_drop(before text, counted bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
    DECLARE
        dropped record;
        digest  bytea := decode(repeat('00', 32), 'hex');
    BEGIN
        FOR dropped IN SELECT d.owner_id, d.position, d.hash FROM authsvc.audit_drops d ORDER BY d.owner_id LOOP
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

-- As before.
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
        INSERT INTO authsvc.audit_drops (owner_id, position, hash, drop_time)
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

-- As before; events move with all columns that there are, by name.
CREATE OR REPLACE FUNCTION authsvc.make_audit_month(month date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s'
    AS $$
    DECLARE
        first date := date_trunc('month', month);
        next  date := date_trunc('month', month) + interval '1 month';
        name  text := 'audit_events_' || to_char(date_trunc('month', month), 'YYYYMM');
        named text;
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
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO named FROM pg_attribute
         WHERE attrelid = 'authsvc.audit_events'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
        EXECUTE format('WITH moved AS (DELETE FROM authsvc.audit_events_default WHERE event_time >= %L AND event_time < %L RETURNING %s) '
                       'INSERT INTO authsvc.%I (%s) SELECT %s FROM moved', first, next, named, name, named, named);
        EXECUTE format('ALTER TABLE authsvc.audit_events ATTACH PARTITION authsvc.%I FOR VALUES FROM (%L) TO (%L)', name, first, next);
        RETURN true;
    END $$;
