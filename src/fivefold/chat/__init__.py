"""Chat: templates, stop tokens, streaming detokenizer."""
