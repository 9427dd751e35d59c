"""The command line and its settings, within the test's own process."""
