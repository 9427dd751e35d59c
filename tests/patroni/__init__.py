"""Three PostgreSQL nodes under a real Patroni with a real etcd, and replicas of authsvc under load."""
