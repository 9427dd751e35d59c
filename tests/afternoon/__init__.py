"""docs/afternoon.md, from a wheel to an upgrade under load, with the commands of that page."""
