-- Keys are revoked by one statement.

-- Revokes keys and appends their entry to the feed (R6), in a transaction of its own, if the caller, the policy of the only owner
-- whose keys it may change, and the keys are still as the service has judged them. Returns whether it did. Otherwise nothing was
-- done, and the service has to judge again, under locks.
--
-- `judged` has the caller (`caller_id`, `caller_owner_id`, `is_session`, `scopes`), `confined_to` and the
-- `version` of that owner's policy, both null for the platform, what is the default of `keys_enabled`, and the time of the service. `versions` are those of the keys, in the order
-- of `key_ids`. R9: what authority rests on is locked first, then read and compared, in later snapshots; last, the caller's times
-- are compared with the clock, when the end of the feed is locked.
CREATE FUNCTION authsvc.revoke_keys(
    judged jsonb, key_ids text[], versions integer[], update_time timestamptz, revoke_time timestamptz, reason text, events jsonb,
    nonce uuid)
    RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET lock_timeout = '2s'
    AS $$
    DECLARE
        caller_id   text := judged ->> 'caller_id';
        confined_to text := judged ->> 'confined_to';
        sent_time   timestamptz := (judged ->> 'time')::timestamptz;
        held        record;
        prefixes    text[];
    BEGIN
        -- With a snapshot for the whole transaction, nothing would be seen of those who were waited for.
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RETURN false;
        END IF;
        PERFORM set_config('synchronous_commit', 'on', true);
        SELECT * INTO held FROM authsvc.hold_authority(
            ARRAY[caller_id], ARRAY[judged ->> 'caller_owner_id'], NULL,
            CASE WHEN (judged ->> 'is_session')::boolean THEN ARRAY[judged ->> 'caller_owner_id'] ELSE '{}' END, NULL, key_ids,
            confined_to);
        IF NOT FOUND OR held.is_over OR held.revoked_at_once IS TRUE
           OR least(held.expire_time, held.revoke_time) <= authsvc.service_time(sent_time)
           OR held.scopes <> ARRAY(SELECT jsonb_array_elements_text(judged -> 'scopes'))
           OR held.kind = 'key' AND held.owner_id <> 'authsvc' AND NOT coalesce(held.keys_enabled, (judged ->> 'keys_enabled')::boolean)
        THEN
            RETURN false;
        END IF;
        IF (judged ->> 'version')::integer
           <> coalesce((SELECT p.version FROM authsvc.owner_policies p WHERE p.owner_id = confined_to), 0)
           OR cardinality(key_ids) <> (
               SELECT count(*) FROM authsvc.keys k
                WHERE k.key_id = ANY(key_ids) AND k.version = versions[array_position(key_ids, k.key_id)])
        THEN
            RETURN false;
        END IF;
        WITH revoked AS (
            UPDATE authsvc.keys k
               SET update_time = revoke_keys.update_time, revoke_time = revoke_keys.revoke_time, revoker_id = caller_id,
                   revoke_reason = reason, version = k.version + 1
             WHERE k.key_id = ANY(key_ids)
            RETURNING k.key_prefix)
        SELECT array_agg(r.key_prefix ORDER BY r.key_prefix) INTO prefixes FROM revoked r;
        PERFORM authsvc.record_audit(events);
        PERFORM authsvc.publish(nonce, prefixes, NULL, NULL, false, least(held.expire_time, held.revoke_time), sent_time);
        RETURN true;
    END $$;
