"""`python -m authsvc.cli` is `authsvc`."""

from authsvc.cli import main

main()
