"""Faults: what must hold when things fail."""
