-- How often keys, and all keys of an owner together, may be used.

-- All with constant defaults, so no table is rewritten.
ALTER TABLE authsvc.keys
    ADD COLUMN rate_limits jsonb NOT NULL DEFAULT '[]',       -- an array of [name, limit, period in seconds]
    ADD COLUMN budget_id   text  NOT NULL DEFAULT '';         -- whose units are taken; empty: its own. A successor has that of its predecessor
ALTER TABLE authsvc.owner_policies ADD COLUMN rate_limits jsonb NOT NULL DEFAULT '[]';

-- What was taken from each limit. A row that is missing is one of which nothing was taken. It is changed very often, and has no index
-- on what changes, so that the changes stay in its page.
CREATE TABLE authsvc.rate_budgets (
    subject    text NOT NULL,                  -- the budget_id of a key, or 'owner ' and the owner
    name       text NOT NULL,                  -- of the limit
    used       double precision NOT NULL,      -- units that counted as taken at count_time; they come back at the rate of the limit
    count_time timestamptz NOT NULL,
    due_time   timestamptz NOT NULL,           -- when all of them are back
    PRIMARY KEY (subject, name)
) WITH (fillfactor = 50);
-- For those who may register workers.
DO $$
    DECLARE
        grantee regrole;
    BEGIN
        FOR grantee IN
            SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) AS a
             WHERE c.oid = 'authsvc.workers'::regclass AND a.privilege_type = 'INSERT' AND a.grantee <> 0
        LOOP
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON authsvc.rate_budgets TO %s', grantee);
        END LOOP;
    END $$;

-- The time of all budgets: that of the database, which is one for all workers. A function, so that tests can set it.
CREATE FUNCTION authsvc.budget_time() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

-- Lends units of budgets, by the clock of the database alone. Budgets are given in an order that all callers share, so that no two
-- wait for each other. Loans are numbered from 1 on; the needs of a loan are next to each other, and are all met or none. Nothing
-- depends on what is lost in a crash of the server but a fraction of a second of units, so no commit waits.
CREATE FUNCTION authsvc.borrow_units(
    subjects text[], names text[], limits double precision[], periods double precision[],         -- of each budget
    loans integer[], budgets integer[], fewest double precision[], most double precision[],        -- of each need; a budget by its place
    OUT lent double precision[],                                                                  -- to each need
    OUT used double precision[])                                                                  -- of the budget of each need, since
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    #variable_conflict use_column
    DECLARE
        known   integer := 0;
        taken   double precision[] := array_fill(0.0::double precision, ARRAY[cardinality(subjects)]);
        counted timestamptz[] := array_fill('-infinity'::timestamptz, ARRAY[cardinality(subjects)]);
        held    record;
        moment  timestamptz;
        first   integer := 1;
        last    integer;
        budget  integer;
        is_met  boolean;
        size    integer := cardinality(loans);
    BEGIN
        PERFORM set_config('synchronous_commit', 'off', true);
        -- Before any row is locked: whoever waits here for the insertion of another holds only rows that nobody else sees.
        INSERT INTO authsvc.rate_budgets (subject, name, used, count_time, due_time)
        SELECT u.subject, u.name, 0, '-infinity', '-infinity'
          FROM unnest(subjects, names) WITH ORDINALITY AS u (subject, name, place)
         WHERE NOT EXISTS (SELECT FROM authsvc.rate_budgets b WHERE b.subject = u.subject AND b.name = u.name)
         ORDER BY u.place ON CONFLICT DO NOTHING;
        FOR held IN
            SELECT u.place, b.used, b.count_time
              FROM unnest(subjects, names) WITH ORDINALITY AS u (subject, name, place)
              JOIN authsvc.rate_budgets b ON b.subject = u.subject AND b.name = u.name
             ORDER BY u.place FOR UPDATE OF b
        LOOP
            taken[held.place] := held.used;
            counted[held.place] := held.count_time;
            known := known + 1;
        END LOOP;
        IF known < cardinality(subjects) THEN
            RAISE serialization_failure USING MESSAGE = 'a budget was deleted meanwhile';
        END IF;
        -- After the last wait for a lock. When the clock was set back, nothing comes back for that time. More may be taken than the
        -- limit: of a limit that was higher, as that of a key that was rotated may be.
        moment := authsvc.budget_time();
        FOR budget IN 1 .. cardinality(subjects) LOOP
            taken[budget] := CASE WHEN counted[budget] = '-infinity' THEN 0 ELSE
                greatest(0, taken[budget]
                            - greatest(0, extract(epoch FROM moment - counted[budget])::double precision)
                              * limits[budget] / periods[budget]) END;
        END LOOP;
        lent := array_fill(0.0::double precision, ARRAY[size]);
        WHILE first <= size LOOP
            last := first;
            is_met := true;
            WHILE last <= size AND loans[last] = loans[first] LOOP
                budget := budgets[last];
                is_met := is_met AND fewest[last] <= limits[budget] - taken[budget] + 1e-6;
                last := last + 1;
            END LOOP;
            WHILE first < last LOOP
                IF is_met THEN
                    budget := budgets[first];
                    lent[first] := greatest(0, least(most[first], floor(limits[budget] - taken[budget] + 1e-6)));
                    taken[budget] := taken[budget] + lent[first];
                END IF;
                first := first + 1;
            END LOOP;
        END LOOP;
        UPDATE authsvc.rate_budgets b
           SET used = u.used, count_time = moment, due_time = moment + make_interval(secs => u.used * u.period / u.per_period)
          FROM unnest(subjects, names, taken, limits, periods) AS u (subject, name, used, per_period, period)
         WHERE b.subject = u.subject AND b.name = u.name;
        used := ARRAY(SELECT taken[n.budget] FROM unnest(budgets) WITH ORDINALITY AS n (budget, place) ORDER BY n.place);
    END $$;

-- As before, with the new columns.
CREATE OR REPLACE VIEW authsvc.credentials AS
    SELECT 'key' AS kind, k.key_prefix, k.key_id AS credential_id, k.owner_id, k.scopes, k.annotations, k.expire_time,
           k.revoke_time, k.revoke_time <= k.update_time AS revoked_at_once, k.secret_hash, k.secret_origin,
           NULL::timestamptz AS last_activity_time, NULL::interval AS idle_timeout, p.keys_enabled,
           k.disable_time, k.disabled_until, k.allowed_networks, p.allowed_networks AS owner_networks,
           k.rate_limits, p.rate_limits AS owner_rate_limits, k.budget_id
      FROM authsvc.keys k
      LEFT JOIN authsvc.owner_policies p ON p.owner_id = k.owner_id
    UNION ALL
    SELECT 'session', s.key_prefix, s.session_id, s.owner_id, s.scopes, s.annotations, s.latest_expire_time,
           coalesce(s.revoke_time, e.revoke_time),
           coalesce(s.revoke_time, e.revoke_time) IS NOT NULL, s.secret_hash, 'minted', s.last_activity_time, s.idle_timeout,
           NULL, NULL, NULL, '{}', NULL, '[]', NULL, ''
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
           k.disable_time, k.disabled_until, k.disabler_id, k.disable_reason, k.disabled_by_platform, k.allowed_networks,
           k.revoke_cause, k.revoked_with_key_id, k.rate_limits, k.budget_id
      FROM authsvc.keys k JOIN authsvc.key_uses u USING (key_id, owner_id);
