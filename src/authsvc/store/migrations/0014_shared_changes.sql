-- Keys are created and revoked by statements that calls share: what is requested at the same time is one transaction.

-- Locks the ends of the owners' audit chains that are free; returns whether all are locked. An owner without events has none. The role
-- that serves may not lock them itself.
CREATE FUNCTION authsvc.lock_heads_at_once(owners text[]) RETURNS boolean
    LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
    AS $$
        SELECT (SELECT count(*) FROM (
                    SELECT FROM authsvc.audit_heads h WHERE h.owner_id = ANY(owners) FOR UPDATE SKIP LOCKED) AS locked)
             = (SELECT count(*) FROM authsvc.audit_heads h WHERE h.owner_id = ANY(owners));
    $$;
REVOKE EXECUTE ON FUNCTION authsvc.lock_heads_at_once(text[]) FROM PUBLIC;
-- For those who may record events, which locks these ends, too.
DO $$
    DECLARE
        grantee regrole;
    BEGIN
        FOR grantee IN
            SELECT a.grantee FROM pg_proc p, aclexplode(p.proacl) AS a
             WHERE p.oid = 'authsvc.record_audit(jsonb)'::regprocedure AND a.privilege_type = 'EXECUTE' AND a.grantee <> 0
        LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION authsvc.lock_heads_at_once(text[]) TO %s', grantee);
        END LOOP;
    END $$;

-- Takes the locks of a change, if all of them are free, without waiting and in any order: those of hold_authority, and the ends of
-- the owners' audit chains. Returns whether all were free.
CREATE FUNCTION authsvc.lock_at_once(
    caller_id text, caller_owner_id text, is_session boolean, owners text[], key_ids text[]) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    AS $$
    BEGIN
        IF NOT (SELECT bool_and(pg_try_advisory_xact_lock_shared(hashtextextended(o.owner, 0)))
                  FROM unnest(owners || caller_owner_id) AS o (owner))
           OR is_session AND NOT pg_try_advisory_xact_lock_shared(hashtextextended('sessions of ' || caller_owner_id, 0))
        THEN
            RETURN false;
        END IF;
        IF is_session THEN
            PERFORM FROM authsvc.sessions s WHERE s.session_id = caller_id FOR KEY SHARE SKIP LOCKED;
        ELSE
            PERFORM FROM authsvc.keys k WHERE k.key_id = caller_id FOR KEY SHARE SKIP LOCKED;
        END IF;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
        IF key_ids <> '{}' AND cardinality(key_ids) <> (
            SELECT count(*) FROM (
                SELECT FROM authsvc.keys k WHERE k.key_id = ANY(key_ids) FOR UPDATE SKIP LOCKED) AS locked)
        THEN
            RETURN false;
        END IF;
        RETURN authsvc.lock_heads_at_once(owners);
    END $$;

-- Takes the locks of a change (R9), then compares its caller with what the service has judged. `is_as_judged` is false, too, if
-- `at_once` is true and one of the locks is not free. `end_time` is when the authority of the caller ends.
CREATE FUNCTION authsvc.hold_judged(
    caller_id text, caller_owner_id text, is_session boolean, judged_scopes text[], owners text[], key_ids text[], confined_to text,
    at_once boolean, default_keys_enabled boolean, sent_time timestamptz, OUT is_as_judged boolean, OUT end_time timestamptz)
    LANGUAGE plpgsql VOLATILE
    AS $$
    DECLARE
        held record;
    BEGIN
        is_as_judged := NOT at_once OR authsvc.lock_at_once(caller_id, caller_owner_id, is_session, owners, key_ids);
        IF is_as_judged THEN
            SELECT h.kind, h.owner_id, h.scopes, h.expire_time, h.revoke_time, h.revoked_at_once, h.keys_enabled, h.is_over INTO held
              FROM authsvc.hold_authority(
                  ARRAY[caller_id], owners || caller_owner_id, NULL,
                  CASE WHEN is_session THEN ARRAY[caller_owner_id] ELSE '{}' END, NULL, key_ids, confined_to) AS h;
            end_time := least(held.expire_time, held.revoke_time);
            is_as_judged := FOUND AND NOT held.is_over AND held.revoked_at_once IS NOT TRUE
                AND (end_time <= authsvc.service_time(sent_time)) IS NOT TRUE
                AND held.scopes = judged_scopes
                AND (held.kind <> 'key' OR held.owner_id = 'authsvc' OR coalesce(held.keys_enabled, default_keys_enabled));
        END IF;
    END $$;

-- Creates keys, in a transaction of its own: each if its caller and the policy of its owner are still as the service has judged
-- them. Returns the numbers of those that it has created. The service has to judge the others again, under locks.
--
-- A creation has its `number`, its caller (`caller_id`, `caller_owner_id`, `is_session`, `scopes`), the `policy_version`,
-- `max_active_keys` of the policy, 0 for no limit, the `key` and the `events`. R9: what authority rests on is locked first, then read
-- and compared, in later snapshots; last, the callers' times are compared with the clock. With `at_once`, those are left out that
-- would have to wait for a lock, so that no owner waits for the locks of another.
CREATE FUNCTION authsvc.create_keys(creations jsonb, at_once boolean, default_keys_enabled boolean, sent_time timestamptz)
    RETURNS integer[]
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET lock_timeout = '2s'
    AS $$
    DECLARE
        given       record;
        held        record;
        key         record;
        request     bigint;                                   -- what is locked for the request
        made        integer[] := '{}';
        events      jsonb := '[]';
        end_time    timestamptz;
    BEGIN
        -- With a snapshot for the whole transaction, nothing would be seen of those who were waited for.
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RETURN made;
        END IF;
        PERFORM set_config('synchronous_commit', 'on', true);
        FOR given IN
            SELECT c.number, c.caller_id, c.caller_owner_id, c.is_session, c.scopes, c.policy_version, c.max_active_keys, c.key, c.events
              FROM jsonb_to_recordset(creations) AS c (
                number integer, caller_id text, caller_owner_id text, is_session boolean, scopes text[], policy_version integer,
                max_active_keys integer, key jsonb, events jsonb)
        LOOP
            SELECT * INTO key FROM jsonb_to_record(given.key) AS k (
                key_id text, owner_id text, key_prefix text, secret_hash text, secret_origin text, display_name text, folded_name text,
                description text, scopes text[], technical_contacts jsonb, annotations jsonb, create_time timestamptz,
                creator_id text, expire_time timestamptz, request_id text, version integer);
            SELECT h.is_as_judged, h.end_time INTO held
              FROM authsvc.hold_judged(
                  given.caller_id, given.caller_owner_id, given.is_session, given.scopes, ARRAY[key.owner_id], '{}', NULL,
                  at_once, default_keys_enabled, sent_time) AS h;
            CONTINUE WHEN NOT held.is_as_judged;
            CONTINUE WHEN key.owner_id <> 'authsvc' AND given.policy_version
                <> coalesce((SELECT p.version FROM authsvc.owner_policies p WHERE p.owner_id = key.owner_id), 0);
            IF key.request_id IS NOT NULL THEN
                request := hashtextextended('request ' || key.request_id || ' of ' || key.owner_id, 0);
                IF NOT at_once THEN
                    PERFORM pg_advisory_xact_lock(request);
                ELSIF NOT pg_try_advisory_xact_lock(request) THEN
                    CONTINUE;
                END IF;
                PERFORM FROM authsvc.keys k WHERE k.owner_id = key.owner_id AND k.request_id = key.request_id
                  UNION ALL
                 SELECT FROM authsvc.deleted_key_requests d WHERE d.owner_id = key.owner_id AND d.request_id = key.request_id;
                CONTINUE WHEN FOUND;
            END IF;
            IF given.max_active_keys > 0 THEN
                request := hashtextextended('active keys of ' || key.owner_id, 0);
                IF NOT at_once THEN
                    PERFORM pg_advisory_xact_lock(request);
                ELSIF NOT pg_try_advisory_xact_lock(request) THEN
                    CONTINUE;
                END IF;
                CONTINUE WHEN given.max_active_keys <= (
                    SELECT count(*) FROM (
                        SELECT FROM authsvc.keys k
                         WHERE k.owner_id = key.owner_id AND coalesce(least(k.expire_time, k.revoke_time), 'infinity') > sent_time
                           AND (k.revoke_time <= k.update_time) IS NOT TRUE AND k.rotated_to_key_id = ''
                         LIMIT given.max_active_keys) AS active);
            END IF;
            INSERT INTO authsvc.keys (
                key_id, owner_id, key_prefix, secret_hash, secret_origin, display_name, folded_name, description, scopes,
                technical_contacts, annotations, create_time, creator_id, update_time, expire_time, revoker_id, revoke_reason,
                rotated_from_key_id, rotated_to_key_id, request_id, version)
            VALUES (
                key.key_id, key.owner_id, key.key_prefix, key.secret_hash, key.secret_origin, key.display_name, key.folded_name,
                key.description, key.scopes, key.technical_contacts, key.annotations, key.create_time, key.creator_id,
                key.create_time, key.expire_time, '', '', '', '', key.request_id, key.version);
            -- By which lists can be ordered. Whether the answer is sent matters to a repeated request only.
            INSERT INTO authsvc.key_uses (key_id, owner_id, answer)
            VALUES (key.key_id, key.owner_id, CASE WHEN key.request_id IS NOT NULL THEN 'pending' END);
            events := events || given.events;
            end_time := least(end_time, held.end_time);
            made := made || given.number;
        END LOOP;
        IF made <> '{}' THEN
            PERFORM authsvc.record_audit(events);
            PERFORM authsvc.refuse_from(end_time, sent_time);
        END IF;
        RETURN made;
    END $$;

-- Makes revocations and appends one entry for them to the feed (R6), in a transaction of its own. Makes each only if the caller,
-- the policy of the only owner whose keys it may change, and the keys are still as the service has judged them. Returns the numbers
-- of those that were made. The service has to judge the others again, under locks.
--
-- A revocation has its `number`, its caller (`caller_id`, `caller_owner_id`, `is_session`, `scopes`), `confined_to` and the
-- `version` of that owner's policy, both null for the platform, its keys (`key_ids`, and their `versions` in the same order), and
-- what is written (`update_time`, `revoke_time`, `reason`, `events`). R9: what authority rests on is locked first, then read and compared, in later
-- snapshots; last, the callers' times are compared with the clock, when the end of the feed is locked. With `at_once`, those are left
-- out that would have to wait for a lock, so that no owner waits for the locks of another.
CREATE FUNCTION authsvc.revoke_keys(
    revocations jsonb, at_once boolean, default_keys_enabled boolean, sent_time timestamptz, nonce uuid)
    RETURNS integer[]
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET lock_timeout = '2s'
    AS $$
    DECLARE
        given       record;
        held        record;
        made        integer[] := '{}';
        events      jsonb := '[]';
        prefixes    text[] := '{}';
        end_time    timestamptz;
    BEGIN
        -- With a snapshot for the whole transaction, nothing would be seen of those who were waited for.
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RETURN made;
        END IF;
        PERFORM set_config('synchronous_commit', 'on', true);
        FOR given IN
            SELECT r.number, r.caller_id, r.caller_owner_id, r.is_session, r.scopes, r.confined_to, r.version, r.key_ids, r.versions,
                   r.update_time, r.revoke_time, r.reason, r.events
              FROM jsonb_to_recordset(revocations) AS r (
                number integer, caller_id text, caller_owner_id text, is_session boolean, scopes text[], confined_to text,
                version integer, key_ids text[], versions integer[], update_time timestamptz, revoke_time timestamptz, reason text,
                events jsonb)
        LOOP
            SELECT h.is_as_judged, h.end_time INTO held
              FROM authsvc.hold_judged(
                  given.caller_id, given.caller_owner_id, given.is_session, given.scopes,
                  ARRAY(SELECT DISTINCT k.owner_id FROM authsvc.keys k WHERE k.key_id = ANY(given.key_ids)), given.key_ids,
                  given.confined_to, at_once, default_keys_enabled, sent_time) AS h;
            CONTINUE WHEN NOT held.is_as_judged;
            CONTINUE WHEN given.version
                    <> coalesce((SELECT p.version FROM authsvc.owner_policies p WHERE p.owner_id = given.confined_to), 0)
                OR cardinality(given.key_ids) <> (
                    SELECT count(*) FROM authsvc.keys k
                     WHERE k.key_id = ANY(given.key_ids) AND k.version = given.versions[array_position(given.key_ids, k.key_id)]);
            WITH revoked AS (
                UPDATE authsvc.keys k
                   SET update_time = given.update_time, revoke_time = given.revoke_time, revoker_id = given.caller_id,
                       revoke_reason = given.reason, version = k.version + 1
                 WHERE k.key_id = ANY(given.key_ids) AND k.owner_id = coalesce(given.confined_to, k.owner_id)
                RETURNING k.key_prefix)
            SELECT prefixes || array_agg(r.key_prefix) INTO prefixes FROM revoked r;
            events := events || given.events;
            end_time := least(end_time, held.end_time);
            made := made || given.number;
        END LOOP;
        IF made <> '{}' THEN
            PERFORM authsvc.record_audit(events);
            PERFORM authsvc.publish(nonce, prefixes, NULL, NULL, false, end_time, sent_time);
        END IF;
        RETURN made;
    END $$;
