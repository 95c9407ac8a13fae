"""Chat: messages to tokens by a model's template, tokens to text, and text to an answer's parts.

A dialect says how a family of models writes reasoning and tool calls. HTTP, the running of tools and
the choice of tokens are elsewhere.
"""

from fivefold.chat.answer import AnswerParser, CallForm, Dialect, Marks, Piece
from fivefold.chat.detokenizer import StreamDecoder
from fivefold.chat.dialects import DIALECTS, dialect_for
from fivefold.chat.template import ChatTemplate
from fivefold.chat.tool_messages import messages_with_tools

__all__ = [
    "DIALECTS",
    "AnswerParser",
    "CallForm",
    "ChatTemplate",
    "Dialect",
    "Marks",
    "Piece",
    "StreamDecoder",
    "dialect_for",
    "messages_with_tools",
]
