"""Core: the nouns, frozen configuration and error types."""
