"""What the README claims about speed and size, measured: `make bench`.

Every figure is a ratio of two sides that ran in turns in one run, because machines
are noisy and differ: the absolute numbers beside it are for orientation only.

`verify` and `cold` measure VerifyKey, `lists` ListKeys, `memory` the cache.
`server` is the process that they call, `table` what they print.
"""

import os

# gRPC tells of each subprocess otherwise. It reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
