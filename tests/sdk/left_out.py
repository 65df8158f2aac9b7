"""The SDK's tests that no other class can pass, each with its reason: a closed list."""

_WHITE_BOX = "puts a waiter of the SDK's private class into the stock class's private table"

LEFT_OUT = {
    "tests/shared/test_jsonrpc_dispatcher.py"
    "::test_resolve_pending_drops_outcome_when_waiter_stream_already_closed": _WHITE_BOX,
    "tests/shared/test_jsonrpc_dispatcher.py"
    "::test_fan_out_closed_drops_signal_when_waiter_already_has_outcome": _WHITE_BOX,
}

_CONTRACT = "tests/shared/test_dispatcher.py::"
_LOWLEVEL = "tests/interaction/lowlevel/"
_TYPED = 'ids are compared by type and value: 7 and "7" are two (X-02)'

# Of those that run on a turnout peer, what the protocol has otherwise than the SDK.
LEFT_OUT_NATIVE = {
    f"{_LOWLEVEL}test_cancellation.py::test_cancellation_stops_in_flight_handler[in-memory-2025-11-25]": (
        "a cancel that is sent as a notification ends the request that it names; the SDK's caller waits for ever"
    ),
    f"{_LOWLEVEL}test_progress.py"
    "::test_client_progress_notification_reaches_server_handler[in-memory-2025-11-25]": (
        "progress is not sent for a token that nothing in flight has (PRG-10)"
    ),
    f"{_LOWLEVEL}test_progress.py"
    "::test_progress_sent_after_the_response_is_not_delivered_to_the_callback[in-memory-2025-11-25]": (
        "progress is not sent after the response (PRG-10)"
    ),
    f"{_LOWLEVEL}test_progress.py"
    "::test_non_increasing_progress_values_are_forwarded_unchanged[in-memory-2025-11-25]": (
        "progress is not sent where it does not increase (PRG-07)"
    ),
    f"{_CONTRACT}test_ctx_send_raw_request_raises_nobackchannelerror_when_transport_disallows[jsonrpc]": (
        "a transport builder says that no request can be sent back; a peer's transport takes them"
    ),
    f"{_CONTRACT}test_send_raw_request_with_in_flight_request_id_raises_and_frees_id_on_completion[jsonrpc]": (
        "looks for the SDK's wording of the ValueError"
    ),
    f"{_CONTRACT}test_minted_ids_skip_a_caller_supplied_id_still_in_flight[jsonrpc]": _TYPED,
    f"{_CONTRACT}test_supplied_numeric_string_id_collides_with_its_int_twin[jsonrpc]": _TYPED,
}

_PROGRESS = f"{_LOWLEVEL}test_progress.py::"
_UNASKED = "progress for a token that nothing in flight has goes no further (PRG-10)"
_STANDS = "progress that does not increase goes no further (PRG-07)"

# Of those that run behind a relay, what the relay has otherwise than a server that is called directly.
LEFT_OUT_RELAYED = {
    f"{_PROGRESS}test_client_progress_notification_reaches_server_handler[streamable-http-2025-11-25]": _UNASKED,
    f"{_PROGRESS}test_client_progress_notification_reaches_server_handler"
    "[streamable-http-stateless-2025-11-25]": _UNASKED,
    f"{_PROGRESS}test_progress_sent_after_the_response_is_not_delivered_to_the_callback"
    "[streamable-http-2025-11-25]": "progress after the response goes no further (PRG-10)",
    f"{_PROGRESS}test_non_increasing_progress_values_are_forwarded_unchanged[streamable-http-2025-11-25]": _STANDS,
    f"{_PROGRESS}test_non_increasing_progress_values_are_forwarded_unchanged"
    "[streamable-http-stateless-2025-11-25]": _STANDS,
    f"{_PROGRESS}test_non_increasing_progress_values_are_forwarded_unchanged[streamable-http-2026-07-28]": _STANDS,
    f"{_LOWLEVEL}test_subscriptions.py"
    "::test_the_subscription_id_is_the_listen_request_id_the_server_saw[streamable-http-2026-07-28]": (
        "a relay gives requests ids of its own (S3): a server sees another one than its client gave"
    ),
}
