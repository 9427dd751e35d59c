"""Call the service of orders: `call.py List`, `call.py Place "a book"`; with the key string in ORDERS_KEY."""

import argparse
import json
import os
import sys
from typing import Any

import grpc


def main() -> int:
    """Call a method, print what it answers, and return 1 when it refuses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=["Ping", "List", "Place", "Watch", "Cancel"])
    parser.add_argument("order", nargs="?", default="")
    parser.add_argument("--address", default="127.0.0.1:50052", help="where the service is")
    given = parser.parse_args()
    key_string = os.environ.get("ORDERS_KEY", "").strip()
    metadata = (("authorization", f"Bearer {key_string}"),) if key_string else ()
    # gRPC would send the key to what http_proxy names, for this machine, too.
    with grpc.insecure_channel(given.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        # Any method can be called so: one answer is a stream of one.
        call: Any = channel.unary_stream(
            f"/orders.v1.Orders/{given.method}", lambda request: json.dumps(request).encode(), json.loads
        )
        try:
            for answer in call({"order": given.order}, metadata=metadata):
                print(json.dumps(answer), flush=True)
        except grpc.RpcError as error:
            print(f"{error.details()} ({error.code().name})", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
