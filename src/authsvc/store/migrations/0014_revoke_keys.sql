-- Keys are revoked by one statement, in which revocations that are requested at the same time share a transaction.

-- Takes the locks that a revocation needs, if all of them are free, without waiting and in any order: those of hold_authority, and
-- the ends of the audit chains. Returns whether all were free.
CREATE FUNCTION authsvc.lock_at_once(caller_id text, caller_owner_id text, is_session boolean, key_ids text[]) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    AS $$
    DECLARE
        owners text[] := ARRAY(SELECT DISTINCT k.owner_id FROM authsvc.keys k WHERE k.key_id = ANY(key_ids));
    BEGIN
        RETURN (SELECT bool_and(pg_try_advisory_xact_lock_shared(hashtextextended(o.owner, 0)))
                  FROM unnest(owners || caller_owner_id) AS o (owner))
           AND (NOT is_session OR pg_try_advisory_xact_lock_shared(hashtextextended('sessions of ' || caller_owner_id, 0)))
           AND CASE WHEN is_session
                    THEN (SELECT count(*) FROM (
                              SELECT FROM authsvc.sessions s WHERE s.session_id = caller_id FOR KEY SHARE SKIP LOCKED) AS locked)
                    ELSE (SELECT count(*) FROM (
                              SELECT FROM authsvc.keys k WHERE k.key_id = caller_id FOR KEY SHARE SKIP LOCKED) AS locked)
               END = 1
           AND (SELECT count(*) FROM (
                    SELECT FROM authsvc.keys k WHERE k.key_id = ANY(key_ids) FOR UPDATE SKIP LOCKED) AS locked) = cardinality(key_ids)
           AND (SELECT count(*) FROM (
                    SELECT FROM authsvc.audit_heads h WHERE h.owner_id = ANY(owners) FOR UPDATE SKIP LOCKED) AS locked)
               = cardinality(owners);
    END $$;

-- Makes revocations and appends one entry for them to the feed (R6), in a transaction of its own. Makes each only if the caller,
-- the policy of the only owner whose keys it may change, and the keys are still as the service has judged them. Returns the numbers
-- of those that were made. The service has to judge the others again, under locks.
--
-- A revocation has its `number`, its caller (`caller_id`, `caller_owner_id`, `is_session`, `scopes`), `confined_to` and the `version` of that
-- owner's policy, both null for the platform, its keys (`key_ids`, and their `versions` in the same order), and what is written
-- (`update_time`, `revoke_time`, `reason`, `events`). R9: what authority rests on is locked first, then read and compared, in later
-- snapshots; last, the callers' times are compared with the clock, when the end of the feed is locked. Of several revocations, those
-- are left out that would have to wait for a lock, so that no owner waits for the locks of another.
CREATE FUNCTION authsvc.revoke_keys(revocations jsonb, default_keys_enabled boolean, sent_time timestamptz, nonce uuid)
    RETURNS integer[]
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET lock_timeout = '2s'
    AS $$
    DECLARE
        are_several boolean := jsonb_array_length(revocations) > 1;
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
            SELECT r.* FROM jsonb_to_recordset(revocations) AS r (
                number integer, caller_id text, caller_owner_id text, is_session boolean, scopes text[], confined_to text,
                version integer, key_ids text[], versions integer[], update_time timestamptz, revoke_time timestamptz, reason text,
                events jsonb)
        LOOP
            CONTINUE WHEN are_several
                AND NOT authsvc.lock_at_once(given.caller_id, given.caller_owner_id, given.is_session, given.key_ids);
            SELECT * INTO held FROM authsvc.hold_authority(
                ARRAY[given.caller_id], ARRAY[given.caller_owner_id], NULL,
                CASE WHEN given.is_session THEN ARRAY[given.caller_owner_id] ELSE '{}' END, NULL, given.key_ids, given.confined_to);
            CONTINUE WHEN NOT FOUND OR held.is_over OR held.revoked_at_once IS TRUE
                OR least(held.expire_time, held.revoke_time) <= authsvc.service_time(sent_time)
                OR held.scopes <> given.scopes
                OR held.kind = 'key' AND held.owner_id <> 'authsvc' AND NOT coalesce(held.keys_enabled, default_keys_enabled);
            CONTINUE WHEN given.version
                    <> coalesce((SELECT p.version FROM authsvc.owner_policies p WHERE p.owner_id = given.confined_to), 0)
                OR cardinality(given.key_ids) <> (
                    SELECT count(*) FROM authsvc.keys k
                     WHERE k.key_id = ANY(given.key_ids) AND k.version = given.versions[array_position(given.key_ids, k.key_id)]);
            WITH revoked AS (
                UPDATE authsvc.keys k
                   SET update_time = given.update_time, revoke_time = given.revoke_time, revoker_id = given.caller_id,
                       revoke_reason = given.reason, version = k.version + 1
                 WHERE k.key_id = ANY(given.key_ids)
                RETURNING k.key_prefix)
            SELECT prefixes || array_agg(r.key_prefix) INTO prefixes FROM revoked r;
            events := events || given.events;
            end_time := least(end_time, held.expire_time, held.revoke_time);
            made := made || given.number;
        END LOOP;
        IF made <> '{}' THEN
            PERFORM authsvc.record_audit(events);
            PERFORM authsvc.publish(nonce, prefixes, NULL, NULL, false, end_time, sent_time);
        END IF;
        RETURN made;
    END $$;
