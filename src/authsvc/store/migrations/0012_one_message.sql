-- Changes in fewer messages, and at less cost. The end of the feed is locked in the message that commits, and so for no round trip
-- of a client. A key is created by one statement.

-- The same sets as before, in a third of the time. Each change of a key computes them for its indexes.
CREATE OR REPLACE FUNCTION authsvc.owned(owner_id text, words text[]) RETURNS bigint[]
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    DECLARE
        word   text;
        owned  bigint[] := '{}';
    BEGIN
        FOREACH word IN ARRAY words LOOP
            owned := owned || hashtextextended(owner_id || ' ' || word, 0);
        END LOOP;
        RETURN owned;
    END $$;
CREATE OR REPLACE FUNCTION authsvc.trigrams(name text) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    DECLARE
        trigram text;
        found   text[] := '{}';
    BEGIN
        FOR i IN 1 .. length(name) - 2 LOOP
            trigram := substr(name, i, 3);
            IF trigram <> ALL (found) THEN
                found := found || trigram;
            END IF;
        END LOOP;
        RETURN found;
    END $$;

-- Returns the time of the service, which was `sent_time` when it sent this message. The service's clock is the database's.
CREATE FUNCTION authsvc.service_time(sent_time timestamptz) RETURNS timestamptz
    LANGUAGE sql VOLATILE
    AS $$ SELECT sent_time + (clock_timestamp() - statement_timestamp()) $$;

-- Refuses to go on when the authority of a caller has ended while this message waited for locks; NULL: it has no end. The last
-- step before a commit. R9 in docs/revocation.md.
CREATE FUNCTION authsvc.refuse_from(end_time timestamptz, sent_time timestamptz) RETURNS void
    LANGUAGE plpgsql
    AS $$
    BEGIN
        IF authsvc.service_time(sent_time) >= end_time THEN
            RAISE EXCEPTION 'the authority of the caller has ended' USING ERRCODE = 'AS001';
        END IF;
    END $$;

-- R6. Moves the end of the feed and appends an entry. Must be followed by COMMIT in the same message, because all other changes
-- wait for the lock of the head. The client chooses the nonce, by which it finds the place of the entry after the commit.
CREATE FUNCTION authsvc.publish(
    nonce uuid, key_prefixes text[], owner_id text, kind text, about_tag_keys boolean, end_time timestamptz, sent_time timestamptz)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        place bigint;
    BEGIN
        PERFORM set_config('synchronous_commit', 'on', true);
        UPDATE authsvc.feed_head h SET seq = h.seq + 1, nonce = publish.nonce RETURNING h.seq INTO place;
        INSERT INTO authsvc.feed (seq, nonce, key_prefixes, owner_id, kind, about_tag_keys)
        VALUES (place, publish.nonce, publish.key_prefixes, publish.owner_id, publish.kind, publish.about_tag_keys);
        PERFORM authsvc.refuse_from(end_time, sent_time);
    END $$;

-- R6. Returns the place of an entry with this nonce; NULL if it is not among the last million. It walks from the end, near which
-- the entry is: a plan for a table that was not analyzed would read all of it.
CREATE FUNCTION authsvc.find_place(nonce uuid) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    AS $$
    BEGIN
        RETURN (SELECT f.seq FROM authsvc.feed f
                 WHERE f.nonce = find_place.nonce AND f.seq > (SELECT h.seq FROM authsvc.feed_head h) - 1000000
                 ORDER BY f.seq DESC LIMIT 1);
    END $$;

-- Creates a key, in a transaction of its own, if the caller and the policy of the owner are still as the service has judged
-- them. Returns whether it did. Otherwise nothing was done, and the service has to judge again, under locks.
--
-- `judged` has the caller (`caller_id`, `caller_owner_id`, `is_session`, `scopes`), the policy (its `version`, and its
-- `max_active_keys`, 0 for no limit), what is the default of `keys_enabled`, and the time of the service. R9: what authority rests
-- on is locked first, then read and compared, in later snapshots; last, the caller's times are compared with the clock.
CREATE FUNCTION authsvc.create_key(judged jsonb, given jsonb, events jsonb) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET lock_timeout = '2s'
    AS $$
    DECLARE
        caller_id  text := judged ->> 'caller_id';
        new_owner  text := given ->> 'owner_id';
        request    text := given ->> 'request_id';
        active_max integer := (judged ->> 'max_active_keys')::integer;
        sent_time  timestamptz := (judged ->> 'time')::timestamptz;
        held       record;
        key        record;
    BEGIN
        -- With a snapshot for the whole transaction, nothing would be seen of those who were waited for.
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RETURN false;
        END IF;
        PERFORM set_config('synchronous_commit', 'on', true);
        SELECT * INTO held FROM authsvc.hold_authority(
            ARRAY[caller_id], ARRAY[judged ->> 'caller_owner_id', new_owner], NULL,
            CASE WHEN (judged ->> 'is_session')::boolean THEN ARRAY[judged ->> 'caller_owner_id'] ELSE '{}' END, NULL, '{}', NULL);
        IF NOT FOUND OR held.is_over OR held.revoked_at_once IS TRUE
           OR least(held.expire_time, held.revoke_time) <= authsvc.service_time(sent_time)
           OR held.scopes <> ARRAY(SELECT jsonb_array_elements_text(judged -> 'scopes'))
           OR held.kind = 'key' AND held.owner_id <> 'authsvc' AND NOT coalesce(held.keys_enabled, (judged ->> 'keys_enabled')::boolean)
        THEN
            RETURN false;
        END IF;
        IF new_owner <> 'authsvc' AND (judged ->> 'version')::integer
           <> coalesce((SELECT p.version FROM authsvc.owner_policies p WHERE p.owner_id = new_owner), 0) THEN
            RETURN false;
        END IF;
        IF request IS NOT NULL THEN
            PERFORM pg_advisory_xact_lock(hashtextextended('request ' || request || ' of ' || new_owner, 0));
            PERFORM FROM authsvc.keys k WHERE k.owner_id = new_owner AND k.request_id = request
              UNION ALL
             SELECT FROM authsvc.deleted_key_requests d WHERE d.owner_id = new_owner AND d.request_id = request;
            IF FOUND THEN
                RETURN false;
            END IF;
        END IF;
        IF active_max > 0 THEN
            PERFORM pg_advisory_xact_lock(hashtextextended('active keys of ' || new_owner, 0));
            IF active_max <= (
                SELECT count(*) FROM (
                    SELECT FROM authsvc.keys k
                     WHERE k.owner_id = new_owner AND coalesce(least(k.expire_time, k.revoke_time), 'infinity') > sent_time
                       AND (k.revoke_time <= k.update_time) IS NOT TRUE AND k.rotated_to_key_id = ''
                     LIMIT active_max) AS active)
            THEN
                RETURN false;
            END IF;
        END IF;
        SELECT * INTO key FROM jsonb_to_record(given) AS k (
            key_id text, owner_id text, key_prefix text, secret_hash text, secret_origin text, display_name text, folded_name text,
            description text, scopes text[], technical_contacts jsonb, annotations jsonb, create_time timestamptz, creator_id text,
            expire_time timestamptz, version integer);
        INSERT INTO authsvc.keys (
            key_id, owner_id, key_prefix, secret_hash, secret_origin, display_name, folded_name, description, scopes,
            technical_contacts, annotations, create_time, creator_id, update_time, expire_time, revoker_id, revoke_reason,
            rotated_from_key_id, rotated_to_key_id, request_id, version)
        VALUES (
            key.key_id, key.owner_id, key.key_prefix, key.secret_hash, key.secret_origin, key.display_name, key.folded_name,
            key.description, key.scopes, key.technical_contacts, key.annotations, key.create_time, key.creator_id, key.create_time,
            key.expire_time, '', '', '', '', request, key.version);
        -- By which lists can be ordered. Whether the answer is sent matters to a repeated request only.
        INSERT INTO authsvc.key_uses (key_id, owner_id, answer)
        VALUES (key.key_id, key.owner_id, CASE WHEN request IS NOT NULL THEN 'pending' END);
        PERFORM authsvc.record_audit(events);
        PERFORM authsvc.refuse_from(least(held.expire_time, held.revoke_time), sent_time);
        RETURN true;
    END $$;
