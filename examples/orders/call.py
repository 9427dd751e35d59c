"""Call the orders service with the key string in ORDERS_KEY: `call.py List`, `call.py Place "a book"`."""

import argparse
import json
import os
import sys
from typing import Any

import grpc


def main() -> int:
    """Call a method and print the response. Return 1 if the call fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=["Ping", "List", "Place", "Watch", "Cancel"])
    parser.add_argument("order", nargs="?", default="")
    parser.add_argument("--address", default="127.0.0.1:50052", help="the address of the service")
    given = parser.parse_args()
    key_string = os.environ.get("ORDERS_KEY", "").strip()
    metadata = (("authorization", f"Bearer {key_string}"),) if key_string else ()
    # Otherwise gRPC would send the key to the proxy in http_proxy, even for this machine.
    with grpc.insecure_channel(given.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        # This works for all methods: a single response is a stream of one.
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
