"""`turnout gateway`: any servers of one configuration file behind one endpoint, for many clients at once."""
