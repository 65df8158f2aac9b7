"""A fleet of agents through a relay: what cancels, progress, disconnects and slow readers come to.

`plan` says who asks what and when; `tools` is the server, whose tools only pretend to work; `clients` asks and
looks at every answer; `measure` runs the three against each relay, and `judge` says what came of it.
"""
