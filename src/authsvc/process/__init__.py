"""The processes: a supervisor, its workers, and the database of `authsvc dev`.

The supervisor forks workers, replaces those that fail, and restarts and stops them in order. The database of
`authsvc dev` starts before its workers and stops after them (`dev`). Each child reports to its parent over a
pipe, and ends when the parent is gone (`children`, `child`).
"""
