"""The client of Streamable HTTP: its sockets, logins, sessions and streams."""
