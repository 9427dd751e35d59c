"""`python -m tests.faults.serve <directory>`: `authsvc serve`, which a test can stop (`holder_stages`)."""

import sys
from pathlib import Path

from authsvc.cli import main
from tests.faults import holder_stages

if __name__ == "__main__":
    holder_stages.install(Path(sys.argv[1]))
    sys.argv[1:] = ["serve"]
    main()
