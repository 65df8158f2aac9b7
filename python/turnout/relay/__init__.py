"""The relay: many clients over few servers, frames passed on inside the native core.

Ids and progress tokens are translated both ways, cancels and deadlines carried on, losses answered. Python is
asked about openings, about methods that somebody registered for, and while a server is not there; a frame that
is only passed on never becomes a Python object.
"""

from __future__ import annotations

from turnout.relay.relay import Relay
from turnout.relay.routing.routes import Route
from turnout.relay.routing.tools import Tools
from turnout.relay.upstreams.status import UpstreamStatus
from turnout.relay.upstreams.upstream import RestartPolicy, Sharing, Upstream
from turnout.relay.verdicts import Answer, Forward

__all__ = [
    "Answer",
    "Forward",
    "Relay",
    "RestartPolicy",
    "Route",
    "Sharing",
    "Tools",
    "Upstream",
    "UpstreamStatus",
]
