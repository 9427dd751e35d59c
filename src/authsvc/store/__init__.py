"""Access to PostgreSQL 14 or later. Only this package imports asyncpg.

The queries are in `sql/*.sql`, named and commented; the schema is in `migrations/NNNN_name.sql`. Most
functions take a connection first, so that a use case can call several in one transaction. Arguments and
results are values of `model`.

Errors: every function that uses a connection can raise `Unavailable`: when the database is out of reach or
too slow, when a lock is held too long, and when a transaction conflicts with another one. What else a
function raises is in its docstring. Errors of the driver do not leave this package, apart from those that
mean a programming error.
"""
