"""Chat: templates that turn messages into tokens, and the streaming detokenizer that turns tokens into text.

HTTP, tool calls and the choice of tokens are elsewhere.
"""

from fivefold.chat.detokenizer import StreamDecoder
from fivefold.chat.template import ChatTemplate

__all__ = ["ChatTemplate", "StreamDecoder"]
