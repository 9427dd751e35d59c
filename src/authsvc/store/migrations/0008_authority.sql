-- Locks what the authority of callers rests on, and what their transaction is going to change; then returns the callers'
-- credentials as they are from then on. R9 in docs/revocation.md.
--
-- Each statement of a volatile function has a snapshot of its own under READ COMMITTED, so the last one sees what was
-- committed while the others waited. All locks last until the end of the transaction. They are taken in one order (owners,
-- sessions of owners, rows; of each the platform's first, then by id), so that two transactions never wait for each other.
CREATE FUNCTION authsvc.hold_authority(
    callers        text[],                                    -- ids of the credentials that call
    owners         text[],                                    -- owners of the callers, and owners whose policies are relied on
    changed_owner  text,                                      -- the owner whose policy or whose keys are all changed, or NULL
    session_owners text[],                                    -- owners of callers that are sessions, and of sessions to be opened
    ended_owner    text,                                      -- the owner whose sessions are all ended, or NULL
    changed        text[],                                    -- ids of the keys and sessions to be changed
    confined_to    text)                                      -- the only owner whose credentials may be changed, or NULL
    RETURNS TABLE (
        kind text, credential_id text, owner_id text, scopes text[], expire_time timestamptz, revoke_time timestamptz,
        revoked_at_once boolean, keys_enabled boolean, is_over boolean)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    AS $$
    #variable_conflict use_column
    DECLARE
        held record;
    BEGIN
        -- Whose key it is never changes.
        FOR held IN
            SELECT o.owner, bool_or(o.is_changed) AS is_changed
              FROM (SELECT unnest(owners) AS owner, false AS is_changed
                    UNION ALL SELECT changed_owner, true
                    UNION ALL SELECT k.owner_id, false FROM authsvc.keys k
                               WHERE k.key_id = ANY(changed) AND (confined_to IS NULL OR k.owner_id = confined_to)) AS o
             WHERE o.owner IS NOT NULL GROUP BY o.owner ORDER BY o.owner <> 'authsvc', o.owner COLLATE "C"
        LOOP
            IF held.is_changed THEN
                PERFORM pg_advisory_xact_lock(hashtextextended(held.owner, 0));
            ELSE
                PERFORM pg_advisory_xact_lock_shared(hashtextextended(held.owner, 0));
            END IF;
        END LOOP;
        FOR held IN
            SELECT o.owner, bool_or(o.is_changed) AS is_changed
              FROM (SELECT unnest(session_owners) AS owner, false AS is_changed UNION ALL SELECT ended_owner, true) AS o
             WHERE o.owner IS NOT NULL GROUP BY o.owner ORDER BY o.owner <> 'authsvc', o.owner COLLATE "C"
        LOOP
            IF held.is_changed THEN
                PERFORM pg_advisory_xact_lock(hashtextextended('sessions of ' || held.owner, 0));
            ELSE
                PERFORM pg_advisory_xact_lock_shared(hashtextextended('sessions of ' || held.owner, 0));
            END IF;
        END LOOP;
        -- FOR KEY SHARE waits for FOR UPDATE, which every change of a credential takes here, and for nothing else: last activities
        -- go on being recorded.
        FOR held IN
            SELECT c.id, c.is_key, c.id = ANY(changed) AS is_changed
              FROM (SELECT k.key_id AS id, k.owner_id AS owner, true AS is_key FROM authsvc.keys k
                     WHERE k.key_id = ANY(callers || changed) AND (confined_to IS NULL OR k.owner_id = confined_to)
                    UNION ALL
                    SELECT s.session_id, s.owner_id, false FROM authsvc.sessions s
                     WHERE s.session_id = ANY(callers || changed) AND (confined_to IS NULL OR s.owner_id = confined_to)) AS c
             ORDER BY c.owner <> 'authsvc', c.id COLLATE "C"
        LOOP
            IF held.is_key AND held.is_changed THEN
                PERFORM FROM authsvc.keys k WHERE k.key_id = held.id FOR UPDATE;
            ELSIF held.is_key THEN
                PERFORM FROM authsvc.keys k WHERE k.key_id = held.id FOR KEY SHARE;
            ELSIF held.is_changed THEN
                PERFORM FROM authsvc.sessions s WHERE s.session_id = held.id FOR UPDATE;
            ELSE
                PERFORM FROM authsvc.sessions s WHERE s.session_id = held.id FOR KEY SHARE;
            END IF;
        END LOOP;
        RETURN QUERY
            SELECT c.kind, c.credential_id, c.owner_id, c.scopes, c.expire_time, c.revoke_time, c.revoked_at_once, c.keys_enabled,
                   -- No EXISTS, for which a plan may read all sessions.
                   coalesce((SELECT s.is_over FROM authsvc.sessions s WHERE s.session_id = c.credential_id), false)
              FROM authsvc.credentials c WHERE c.credential_id = ANY(callers);
    END $$;
