-- The clients that verify in their own process, as the workers report them that they follow. Only for operators: what is reported
-- is written again within seconds, so it need not be logged, and nothing waits for a standby.
CREATE UNLOGGED TABLE authsvc.client_reports (
    worker_process_id uuid PRIMARY KEY,        -- one for each process that reports
    host              text NOT NULL,           -- where it runs
    pid               integer NOT NULL,
    report_time       timestamptz NOT NULL,
    client_count      integer NOT NULL,
    clients           jsonb NOT NULL           -- an array
);
-- For those who may register workers.
DO $$
    DECLARE
        grantee regrole;
    BEGIN
        FOR grantee IN
            SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) AS a
             WHERE c.oid = 'authsvc.workers'::regclass AND a.privilege_type = 'INSERT' AND a.grantee <> 0
        LOOP
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON authsvc.client_reports TO %s', grantee);
        END LOOP;
    END $$;
