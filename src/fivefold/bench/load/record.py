"""What one request of a load was like, and all of them; as plain numbers that pass between processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Record:
    """One request. Times are seconds since the load began.

    due         when it should have been sent: in an open loop its arrival, which is before `sent` if the
                generator is late, so that lateness counts as waiting.
    chunks      when each piece of the answer arrived; pieces without text do not count.
    tokens      tokens of the answer by the server's own count, or the number of chunks if it gives none.
    finished    whether the stream came to its end; one that was still under way when the load ended is
                neither finished nor an error.
    """

    due: float
    sent: float
    ended: float = 0.0
    chunks: list[float] = field(default_factory=list)
    tokens: int = 0
    prompt_tokens: int = 0
    counted: bool = False
    finished: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """All requests of a load, what the generator cost (share of one processor), and the long prompt."""

    records: Sequence[Record]
    processor_share: float
    long: Record | None = None

    def to_json(self) -> str:
        """The load as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Load:
        """The load of such a line."""
        fields: dict[str, Any] = json.loads(text)
        long = fields["long"]
        records = [Record(**record) for record in fields["records"]]
        return cls(records, fields["processor_share"], None if long is None else Record(**long))
