"""Upstreams as declared, their sessions, and which clients share which session."""
