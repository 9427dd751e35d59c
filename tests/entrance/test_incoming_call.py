"""A call, as plain values."""

from authsvc.entrance.incoming_call import IncomingCall


def test_it_does_not_show_credentials() -> None:
    """They are neither in a log line nor in a traceback."""
    call = IncomingCall("192.0.2.1", ["hunter2", None])
    assert repr(call) == str(call) == "IncomingCall(address='192.0.2.1', 2 credentials)"
