"""The SDK's `Dispatcher` on the SDK's own streams, with what is in flight in turnout's tables."""
