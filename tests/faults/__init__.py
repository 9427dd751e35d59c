"""Faults: what must hold during failures."""
