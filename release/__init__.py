"""What a release consists of, built from a checkout: the packages and the SBOM. `python -m release dist` makes it."""
