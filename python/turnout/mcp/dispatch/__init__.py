"""The SDK's `Dispatcher`, once, on two backends: the SDK's own streams, and a turnout peer.

A message goes one way in: a backend matches it against what is in flight, `ordering` keeps the order of arrival,
`inbound` handles a request, and `background` runs what runs beside requests. `outbound` sends requests.
`dispatcher` implements the SDK's interface on top of these. `backend` declares what a backend is, and its file is the
only one that both sides know.
"""

from __future__ import annotations
