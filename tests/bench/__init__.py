"""What the README claims about speed and size, measured: `make bench`.

Every figure is a ratio of two sides that ran in turns in one run, because machines
are noisy and differ. The absolute numbers beside it are for orientation only.

`verify` and `cold` measure VerifyKey, `lists` ListKeys, `memory` the cache.
`server` is the process under load, `table` prints the results.
"""

import os

# Otherwise gRPC logs a line about each subprocess. It reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
