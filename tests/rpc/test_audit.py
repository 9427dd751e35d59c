"""AuditService: rule 28, by way of a client."""
