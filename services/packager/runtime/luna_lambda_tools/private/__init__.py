"""How a lambda is served. Nothing here is for a lambda to import; it may change with any release."""
