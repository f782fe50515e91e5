"""The stable half: names that a lambda may import."""
