-- Two roles for authsvc: one owns the schema, one serves and cannot change it.
--
--   psql -v owner_password=... -v server_password=... -f deploy/postgres/roles.sql postgres
--
-- Then migrate with both, and serve with the second only:
--
--   export AUTHSVC_DATABASE_URL=postgresql://authsvc_server:...@host/authsvc
--   AUTHSVC_MIGRATION_DATABASE_URL=postgresql://authsvc_owner:...@host/authsvc authsvc migrate
--   (umask 077; authsvc bootstrap > admin.key)
--   authsvc serve

CREATE ROLE authsvc_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE authsvc_server LOGIN PASSWORD :'server_password';
CREATE DATABASE authsvc OWNER authsvc_owner;
REVOKE ALL ON DATABASE authsvc FROM PUBLIC;
GRANT CONNECT ON DATABASE authsvc TO authsvc_server;

-- PostgreSQL 14 lets everybody make tables there.
\connect authsvc
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
