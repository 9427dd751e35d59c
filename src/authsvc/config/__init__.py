"""What the operator sets: settings from the environment, and files that are reloaded when they change."""
