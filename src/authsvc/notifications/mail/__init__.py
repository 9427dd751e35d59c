"""Mail about notifications, to technical contacts or the operator."""
