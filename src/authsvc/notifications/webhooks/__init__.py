"""Webhooks: owners register addresses, and these are called with what happens (Standard Webhooks 1.0)."""
