"""What to ask the source for, and keeping what comes."""
