"""What turnout is measured against: pages that somebody would write by hand, and the official SDK."""
