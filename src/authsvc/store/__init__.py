"""What is kept in PostgreSQL 14 or later. Nothing else imports asyncpg.

SQL lives in `sql/*.sql` as named, commented queries, the schema in
`migrations/NNNN_name.sql`. Functions take the connection first, so that a use
case can put several in one transaction; all of them speak in `model` words, and
raise `errors.Unavailable` when the database is out of reach.
"""
