-- What a key created, what that created, and so on, is found in either direction of time: R17 in docs/revocation.md. An index that is
-- built here holds up changes for about a second for each million rows.

CREATE INDEX keys_by_creator_alone ON authsvc.keys (creator_id);
-- Those that may be alive, and those that may have created something. No activity changes a column of these.
CREATE INDEX sessions_by_creator ON authsvc.sessions (creator_id, latest_expire_time) WHERE revoke_time IS NULL;
CREATE INDEX sessions_that_create ON authsvc.sessions (creator_id)
    WHERE scopes && ARRAY['full_access', 'keys:write', 'sessions:write']::text[];

-- The creators of what was deleted, as long as there is something that this had created.
CREATE TABLE authsvc.deleted_creators (
    credential_id text COLLATE "C" PRIMARY KEY,               -- a key or session that was deleted
    creator_id    text COLLATE "C" NOT NULL
);
CREATE INDEX deleted_creators_by_creator ON authsvc.deleted_creators (creator_id);

-- Keeps who created what is deleted here, and gives up what led to it and to nothing else.
CREATE FUNCTION authsvc.keep_creators(ids text[], creators text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    AS $$
    BEGIN
        -- All of these are gone by now, so what has led to one that is kept is kept, too.
        WITH RECURSIVE kept (id, creator) AS (
        SELECT g.id, g.creator FROM unnest(ids, creators) AS g (id, creator)
         WHERE EXISTS (SELECT FROM authsvc.keys k WHERE k.creator_id = g.id)
            OR EXISTS (SELECT FROM authsvc.sessions s WHERE s.creator_id = g.id AND s.revoke_time IS NULL)
            OR EXISTS (SELECT FROM authsvc.sessions s
                        WHERE s.creator_id = g.id AND s.scopes && ARRAY['full_access', 'keys:write', 'sessions:write']::text[])
            OR EXISTS (SELECT FROM authsvc.deleted_creators d WHERE d.creator_id = g.id)
        UNION
        SELECT g.id, g.creator FROM unnest(ids, creators) AS g (id, creator) JOIN kept k ON k.creator = g.id)
        INSERT INTO authsvc.deleted_creators (credential_id, creator_id) SELECT k.id, k.creator FROM kept k
            ON CONFLICT DO NOTHING;
        WHILE creators <> '{}' LOOP
            WITH over AS (
                DELETE FROM authsvc.deleted_creators d
                 WHERE d.credential_id = ANY(creators)
                   AND NOT EXISTS (SELECT FROM authsvc.keys k WHERE k.creator_id = d.credential_id)
                   AND NOT EXISTS (SELECT FROM authsvc.sessions s WHERE s.creator_id = d.credential_id AND s.revoke_time IS NULL)
                   AND NOT EXISTS (SELECT FROM authsvc.sessions s
                                    WHERE s.creator_id = d.credential_id
                                      AND s.scopes && ARRAY['full_access', 'keys:write', 'sessions:write']::text[])
                   AND NOT EXISTS (SELECT FROM authsvc.deleted_creators e WHERE e.creator_id = d.credential_id)
                RETURNING d.creator_id)
            SELECT coalesce(array_agg(DISTINCT o.creator_id), '{}') INTO creators FROM over o;
        END LOOP;
    END $$;
REVOKE EXECUTE ON FUNCTION authsvc.keep_creators(text[], text[]) FROM PUBLIC;

CREATE FUNCTION authsvc.keep_creators_of_keys() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        PERFORM authsvc.keep_creators(array_agg(g.key_id), array_agg(g.creator_id)) FROM gone g HAVING count(*) > 0;
        RETURN NULL;
    END $$;
CREATE FUNCTION authsvc.keep_creators_of_sessions() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        PERFORM authsvc.keep_creators(array_agg(g.session_id), array_agg(g.creator_id)) FROM gone g HAVING count(*) > 0;
        RETURN NULL;
    END $$;
REVOKE EXECUTE ON FUNCTION authsvc.keep_creators_of_keys(), authsvc.keep_creators_of_sessions() FROM PUBLIC;

-- Triggers, so that it is kept whatever version deletes.
CREATE TRIGGER keep_creators AFTER DELETE ON authsvc.keys REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION authsvc.keep_creators_of_keys();
CREATE TRIGGER keep_creators AFTER DELETE ON authsvc.sessions REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION authsvc.keep_creators_of_sessions();

-- The key whose revocation has ended this one, too; '' if none has. A column of its own, because those who know only the values of
-- revoke_cause that were there before cannot read another. With a constant default, so the table is not rewritten.
ALTER TABLE authsvc.keys ADD COLUMN revoked_with_key_id text NOT NULL DEFAULT '';

-- As before, with the new column.
CREATE OR REPLACE VIEW authsvc.key_records AS
    SELECT k.key_id, k.owner_id, k.key_prefix, k.display_name, k.folded_name, k.description, k.scopes,
           k.technical_contacts, k.annotations, k.create_time, k.creator_id, k.update_time, k.expire_time, k.revoke_time,
           k.revoker_id, k.revoke_reason, k.rotated_from_key_id, k.rotated_to_key_id, k.version,
           u.last_use_time, u.last_use_ip,
           u.key_id AS use_key_id,                            -- for orders that the index of key_uses serves
           u.answer,
           k.disable_time, k.disabled_until, k.disabler_id, k.disable_reason, k.disabled_by_platform, k.allowed_networks,
           k.revoke_cause, k.revoked_with_key_id
      FROM authsvc.keys k JOIN authsvc.key_uses u USING (key_id, owner_id);

-- For those who may create keys.
DO $$
    DECLARE
        grantee regrole;
    BEGIN
        FOR grantee IN
            SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) AS a
             WHERE c.oid = 'authsvc.keys'::regclass AND a.privilege_type = 'INSERT' AND a.grantee <> 0
        LOOP
            EXECUTE format('GRANT SELECT ON authsvc.deleted_creators TO %s', grantee);
        END LOOP;
    END $$;
