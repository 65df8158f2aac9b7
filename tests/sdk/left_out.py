"""The SDK's tests that no other class can pass, each with its reason: a closed list."""

_WHITE_BOX = "puts a waiter of the SDK's private class into the stock class's private table"

LEFT_OUT = {
    "tests/shared/test_jsonrpc_dispatcher.py"
    "::test_resolve_pending_drops_outcome_when_waiter_stream_already_closed": _WHITE_BOX,
    "tests/shared/test_jsonrpc_dispatcher.py"
    "::test_fan_out_closed_drops_signal_when_waiter_already_has_outcome": _WHITE_BOX,
}
