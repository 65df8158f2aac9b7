"""Which upstream a request goes to: routes as declared, and the names that lead there."""
