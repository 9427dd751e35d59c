#!/bin/bash
# Makes the database and its roles when PostgreSQL starts for the first time. The image of PostgreSQL reads this file.
psql -X -v owner_password_file=/run/secrets/owner-password -v server_password_file=/run/secrets/server-password \
  -f /opt/roles.sql --username postgres postgres
