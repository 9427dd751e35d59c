"""What a release consists of: the packages and the SBOM. `python -m release dist` builds them."""
