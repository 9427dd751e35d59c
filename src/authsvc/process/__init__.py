"""The processes: a supervisor, its workers, and the database of `authsvc dev`.

The supervisor forks workers, replaces those that die, and restarts and stops them in order. Each child
reports to it over a pipe and ends when the supervisor is gone.
"""
