-- Keys that are disabled for a while, and keys and owners that are confined to networks.

-- All with constant defaults, so no table is rewritten.
ALTER TABLE authsvc.keys
    ADD COLUMN disable_time         timestamptz,                  -- NULL: the key is not disabled
    ADD COLUMN disabled_until       timestamptz,                  -- NULL: until it is enabled
    ADD COLUMN disabler_id          text NOT NULL DEFAULT '',
    ADD COLUMN disable_reason       text NOT NULL DEFAULT '',
    ADD COLUMN disabled_by_platform boolean NOT NULL DEFAULT false,
    ADD COLUMN allowed_networks     text[] NOT NULL DEFAULT '{}'; -- empty: any
ALTER TABLE authsvc.owner_policies ADD COLUMN allowed_networks text[] NOT NULL DEFAULT '{}';
-- When the contacts were last told that somebody has the secret and calls from another network; NULL: never.
ALTER TABLE authsvc.key_uses ADD COLUMN address_refused_time timestamptz;

-- As before, with the new columns.
CREATE OR REPLACE VIEW authsvc.credentials AS
    SELECT 'key' AS kind, k.key_prefix, k.key_id AS credential_id, k.owner_id, k.scopes, k.annotations, k.expire_time,
           k.revoke_time, k.revoke_time <= k.update_time AS revoked_at_once, k.secret_hash, k.secret_origin,
           NULL::timestamptz AS last_activity_time, NULL::interval AS idle_timeout, p.keys_enabled,
           k.disable_time, k.disabled_until, k.allowed_networks, p.allowed_networks AS owner_networks
      FROM authsvc.keys k
      LEFT JOIN authsvc.owner_policies p ON p.owner_id = k.owner_id
    UNION ALL
    SELECT 'session', s.key_prefix, s.session_id, s.owner_id, s.scopes, s.annotations, s.latest_expire_time,
           coalesce(s.revoke_time, e.revoke_time),
           coalesce(s.revoke_time, e.revoke_time) IS NOT NULL, s.secret_hash, 'minted', s.last_activity_time, s.idle_timeout,
           NULL, NULL, NULL, '{}', NULL
      FROM authsvc.sessions s
      LEFT JOIN LATERAL (
          SELECT revoke_time FROM authsvc.session_ends
           WHERE owner_id = s.owner_id AND epoch > s.epoch ORDER BY epoch LIMIT 1) e ON true;

CREATE OR REPLACE VIEW authsvc.key_records AS
    SELECT k.key_id, k.owner_id, k.key_prefix, k.display_name, k.folded_name, k.description, k.scopes,
           k.technical_contacts, k.annotations, k.create_time, k.creator_id, k.update_time, k.expire_time, k.revoke_time,
           k.revoker_id, k.revoke_reason, k.rotated_from_key_id, k.rotated_to_key_id, k.version,
           u.last_use_time, u.last_use_ip,
           u.key_id AS use_key_id,                            -- for orders that the index of key_uses serves
           u.answer,
           k.disable_time, k.disabled_until, k.disabler_id, k.disable_reason, k.disabled_by_platform, k.allowed_networks
      FROM authsvc.keys k JOIN authsvc.key_uses u USING (key_id, owner_id);

-- As before, with the new columns of a caller's credential. The result has other columns, so the function cannot be replaced.
DROP FUNCTION authsvc.hold_authority(text[], text[], text, text[], text, text[], text);
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
        revoked_at_once boolean, keys_enabled boolean, is_over boolean, disable_time timestamptz, disabled_until timestamptz,
        allowed_networks text[], owner_networks text[])
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
                   coalesce((SELECT s.is_over FROM authsvc.sessions s WHERE s.session_id = c.credential_id), false),
                   c.disable_time, c.disabled_until, c.allowed_networks, c.owner_networks
              FROM authsvc.credentials c WHERE c.credential_id = ANY(callers);
    END $$;

-- As before. A caller that is disabled, or confined to networks, is not as it was judged: the service judges it again.
CREATE OR REPLACE FUNCTION authsvc.hold_judged(
    caller_id text, caller_owner_id text, is_session boolean, judged_scopes text[], owners text[], key_ids text[], confined_to text,
    at_once boolean, default_keys_enabled boolean, sent_time timestamptz, OUT is_as_judged boolean, OUT end_time timestamptz)
    LANGUAGE plpgsql VOLATILE
    AS $$
    DECLARE
        held record;
    BEGIN
        is_as_judged := NOT at_once OR authsvc.lock_at_once(caller_id, caller_owner_id, is_session, owners, key_ids);
        IF is_as_judged THEN
            SELECT h.kind, h.owner_id, h.scopes, h.expire_time, h.revoke_time, h.revoked_at_once, h.keys_enabled, h.is_over,
                   h.disable_time, h.disabled_until, h.allowed_networks, h.owner_networks
              INTO held
              FROM authsvc.hold_authority(
                  ARRAY[caller_id], owners || caller_owner_id, NULL,
                  CASE WHEN is_session THEN ARRAY[caller_owner_id] ELSE '{}' END, NULL, key_ids, confined_to) AS h;
            end_time := least(held.expire_time, held.revoke_time);
            is_as_judged := FOUND AND NOT held.is_over AND held.revoked_at_once IS NOT TRUE
                AND (end_time <= authsvc.service_time(sent_time)) IS NOT TRUE
                AND held.scopes = judged_scopes
                AND (held.disable_time IS NULL OR coalesce(held.disabled_until, 'infinity') <= authsvc.service_time(sent_time))
                -- The service judges by the address of the caller, which is not known here.
                AND held.allowed_networks = '{}' AND coalesce(held.owner_networks, '{}') = '{}'
                AND (held.kind <> 'key' OR held.owner_id = 'authsvc' OR coalesce(held.keys_enabled, default_keys_enabled));
        END IF;
    END $$;

-- As before, with the new events.
CREATE OR REPLACE FUNCTION authsvc.notify_of_events() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        INSERT INTO authsvc.notifications (
            notification_id, type, owner_id, event_time, position, target_id, actor_id, actor_owner_id, actor_type, details, subject,
            contacts)
        SELECT e.event_id,
               CASE e.action WHEN 'KEY_CREATED' THEN 'key.created' WHEN 'KEY_UPDATED' THEN 'key.updated'
                    WHEN 'KEY_ROTATED' THEN 'key.rotated' WHEN 'KEY_REVOKED' THEN 'key.revoked'
                    WHEN 'KEY_DELETED' THEN 'key.deleted' WHEN 'KEY_DISABLED' THEN 'key.disabled'
                    WHEN 'KEY_ENABLED' THEN 'key.enabled' WHEN 'KEY_ADDRESS_REFUSED' THEN 'key.address_refused'
                    WHEN 'OWNER_KEYS_REVOKED' THEN 'key.revoked'
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
         WHERE e.action IN ('KEY_CREATED', 'KEY_UPDATED', 'KEY_ROTATED', 'KEY_REVOKED', 'KEY_DELETED', 'KEY_DISABLED',
                            'KEY_ENABLED', 'KEY_ADDRESS_REFUSED', 'OWNER_KEYS_REVOKED', 'SESSION_CREATED', 'OWNER_POLICY_UPDATED')
            ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$;
