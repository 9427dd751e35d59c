"""Generated from protos/authsvc/gateway/v1; see `make proto`."""
