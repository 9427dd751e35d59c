"""The drill of docs/backup.md, with the commands of that page and the real tools of PostgreSQL."""
