"""`turnout top`: what is in flight behind any number of gateways, live, in a terminal."""
