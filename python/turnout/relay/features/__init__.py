"""Methods that the relay answers itself: the handshake, merged lists, subscriptions, log levels, task lists."""
