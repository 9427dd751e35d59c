-- One registration for all workers of a replica, and registrations that know their database.

-- Which database this is: the cluster, and the database in it. A backup that is restored elsewhere has another id, as has a copy.
-- NULL where the platform does not allow to ask.
CREATE FUNCTION authsvc.database_id() RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        RETURN (SELECT s.system_identifier FROM pg_control_system() s)
            || '/' || (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
        RETURN NULL;
    END $$;

ALTER TABLE authsvc.workers
    ADD COLUMN worker_pids      integer[] NOT NULL DEFAULT '{}',   -- the processes that answer under this registration
    ADD COLUMN unconfirmed_pids integer[] NOT NULL DEFAULT '{}',   -- those that changes waited for at the last renewal
    ADD COLUMN database_id      text;                              -- where it was registered
ALTER TABLE authsvc.workers ALTER COLUMN database_id SET DEFAULT authsvc.database_id();
-- Those who are registered now have renewed here, unless they came with a dump of the schema before.
UPDATE authsvc.workers SET database_id = authsvc.database_id();
