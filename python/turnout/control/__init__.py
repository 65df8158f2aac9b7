"""Seeing and stopping what is in flight: a small HTTP service beside a router, and the client of it."""
