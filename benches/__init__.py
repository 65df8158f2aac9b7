"""Measurements of turnout beside others: see README.md."""
