"""Load: many clients of a server with OpenAI's protocol, in a process of their own.

`generator.py` is that process. It needs nothing of fivefold outside this folder and is started without it, so
that it is up at once and small; nothing here may import what lies outside.
"""
