-- The trace of the call that a notification is about, for the deliveries to webhooks. Only calls that are traced leave one.
CREATE TABLE authsvc.trace_parents (
    notification_id text COLLATE "C" PRIMARY KEY REFERENCES authsvc.notifications ON DELETE CASCADE,
    trace_parent    text COLLATE "C" NOT NULL CHECK (length(trace_parent) <= 64)
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
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON authsvc.trace_parents TO %s', grantee);
        END LOOP;
    END $$;
