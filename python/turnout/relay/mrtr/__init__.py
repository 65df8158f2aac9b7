"""Multi round-trip requests between eras: replayed for a legacy client, suspended for a modern one."""
