"""The protocol between two peers: the handshake of both eras, from both sides, and the keepalive."""
