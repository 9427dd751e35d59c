-- Two roles for authsvc: one owns the schema, one serves and cannot change it.
--
--   psql -f deploy/postgres/roles.sql postgres
--
-- asks for a password for each, twice. Where nobody is there to type, name files that hold them:
--
--   psql -v owner_password_file=/run/secrets/owner -v server_password_file=/run/secrets/server -f deploy/postgres/roles.sql postgres
--
-- Either way no password is an argument of a command, which others see in the list of processes and a shell keeps in its history.
-- What is typed is hashed before it leaves psql. From a file it goes to the server in a statement, so a superuser has the server
-- keep that out of its log; as somebody else, see that `log_statement` is neither `ddl` nor `all`. Running it again sets new passwords.
--
-- Put the passwords into a password file, so that URLs need none (`chmod 600 ~/.pgpass`, or PGPASSFILE). The driver takes no
-- escapes there, so choose passwords without : and \ in them.
--
--   host:5432:authsvc:authsvc_owner:...
--   host:5432:authsvc:authsvc_server:...
--
-- Then migrate with both roles, and serve with the second only. A machine that only serves needs the second line only.
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

-- PostgreSQL 14 lets everybody make tables there.
\connect authsvc
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
