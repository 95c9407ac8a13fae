"""Side drafters: conversations that a model writes, and a tiny model that learns to guess their next tokens.

After DFlash (arXiv 2602.06036); what is ours is said in `fivefold.core.drafter`.
"""
