"""Sessions, each of which is one signed-in device: creating, reading and revoking them.

`Sessions` has one method for each use case of SessionService. As in `keys`, a method is in the file of its
name, in a base class of `Sessions` that declares the parts it needs. The rules for callers, changes and locks
are those of `keys`, and so are the errors that every use case can raise.

`opening` inserts sessions, many in one transaction. `purge` deletes those that ended long ago. `device` and
`locations` determine the device and the location with which a session is shown.
"""

from authsvc.sessions.sessions import Sessions

__all__ = ["Sessions"]
