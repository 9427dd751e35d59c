-- Creates two roles for authsvc: one owns the schema; the other serves and cannot change the schema.
--
--   psql -f deploy/postgres/roles.sql postgres
--
-- This asks for a password for each role, twice. To run it without a prompt, give files that contain the passwords:
--
--   psql -v owner_password_file=/run/secrets/owner -v server_password_file=/run/secrets/server -f deploy/postgres/roles.sql postgres
--
-- Either way, no password is a command argument, which process lists show and shells keep in their history. A typed password
-- is hashed before it leaves psql. A password from a file is sent to the server in a statement. If you are a superuser, this
-- script keeps that statement out of the server's log. Otherwise, make sure that `log_statement` is neither `ddl` nor `all`.
-- Run the script again to set new passwords.
--
-- Put the passwords in a password file (~/.pgpass with mode 600, or PGPASSFILE), so that URLs do not contain them. The driver
-- does not support escapes in that file, so choose passwords without : and \.
--
--   host:5432:authsvc:authsvc_owner:...
--   host:5432:authsvc:authsvc_server:...
--
-- Then migrate with both roles and serve with the second one. A machine that only serves needs only the second line.
--
--   export AUTHSVC_DATABASE_URL=postgresql://authsvc_server@host/authsvc
--   AUTHSVC_MIGRATION_DATABASE_URL=postgresql://authsvc_owner@host/authsvc authsvc migrate
--   (umask 077; authsvc bootstrap > admin.key)
--   authsvc serve

\set ON_ERROR_STOP on

SELECT 'CREATE ROLE authsvc_owner LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authsvc_owner') \gexec
SELECT 'CREATE ROLE authsvc_server LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authsvc_server') \gexec

SELECT rolsuper AS is_superuser FROM pg_roles WHERE rolname = current_user \gset
\if :is_superuser
  SET log_statement = 'none';
  SET log_min_duration_statement = -1;
  SET log_min_duration_sample = -1;
  SET log_transaction_sample_rate = 0;
  SET log_min_error_statement = 'panic';
  SET pg_stat_statements.track_utility = off;
\endif

\if :{?owner_password_file}
  \set is_there `test -s :'owner_password_file' && echo yes || echo no`
  \if :is_there
    \set password `cat :'owner_password_file'`
    ALTER ROLE authsvc_owner PASSWORD :'password';
  \else
    DO $$ BEGIN RAISE EXCEPTION 'owner_password_file: cannot be read, or is empty'; END $$;
  \endif
\else
  \echo Password for authsvc_owner
  \password authsvc_owner
\endif

\if :{?server_password_file}
  \set is_there `test -s :'server_password_file' && echo yes || echo no`
  \if :is_there
    \set password `cat :'server_password_file'`
    ALTER ROLE authsvc_server PASSWORD :'password';
  \else
    DO $$ BEGIN RAISE EXCEPTION 'server_password_file: cannot be read, or is empty'; END $$;
  \endif
\else
  \echo Password for authsvc_server
  \password authsvc_server
\endif
\unset password

SELECT 'CREATE DATABASE authsvc OWNER authsvc_owner' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'authsvc') \gexec
REVOKE ALL ON DATABASE authsvc FROM PUBLIC;
GRANT CONNECT ON DATABASE authsvc TO authsvc_server;

-- PostgreSQL 14 lets all roles create tables in this schema.
\connect authsvc
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
