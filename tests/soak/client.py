"""The clients of the soak test, as a process of its own: `client.py PORT SECONDS COUNT` prints what happened.

What each asks is random, and so is when it leaves; whatever is not as it should be ends the process.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from typing import Any


def request_body(choose: random.Random) -> dict[str, Any]:
    words = ["river", "stone", "cloud", "seven", "green", "under", "light", "paper", "house", "count"]
    length = choose.choices([3, 20, 60, 200, 800, 2500], weights=[30, 30, 20, 14, 4, 2])[0]
    shared = " ".join(words) + " " if choose.random() < 0.5 else ""
    prompt = shared * choose.randrange(1, 6) + " ".join(choose.choices(words, k=length))
    return {
        "prompt": prompt,
        "max_tokens": choose.choice([1, 5, 20, 60, 150]),
        "temperature": choose.choice([0.0, 0.7, 1.2]),
        "ignore_eos": choose.random() < 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def one_stream(port: int, choose: random.Random) -> str:
    """One request; "left" if the client went away, "refused" if there was no room, else how it ended."""
    body = request_body(choose)
    leave_after = choose.randrange(0, 40) if choose.random() < 0.3 else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        data = json.dumps(body).encode()
        head = f"host: x\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n"
        writer.write(b"POST /v1/completions HTTP/1.1\r\n" + head.encode() + data)
        await writer.drain()
        status = int((await reader.readline()).split()[1])
        while (await reader.readline()).strip():
            pass
        if status == 503:
            return "refused"
        assert status == 200, status
        events = 0
        reason, usage, done = None, None, False
        while line := await reader.readline():
            if not line.startswith(b"data: "):
                continue
            assert not done, "something came after the end"
            if line.strip() == b"data: [DONE]":
                done = True
                continue
            chunk = json.loads(line[6:])
            assert "error" not in chunk, chunk
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                assert reason is None, "a chunk came after the reason"
                reason = choice["finish_reason"]
            events += 1
            if leave_after is not None and events > leave_after:
                return "left"
        assert done, "the stream broke off"
        assert reason in ("stop", "length"), reason
        assert usage is not None
        assert 1 <= usage["completion_tokens"] <= body["max_tokens"]
        if body["ignore_eos"]:
            assert usage["completion_tokens"] == body["max_tokens"]
        return str(reason)
    finally:
        writer.close()


async def clients(port: int, seconds: float, count: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        choose = random.Random(7000 + number)
        while time.monotonic() < end:
            outcomes[await one_stream(port, choose)] += 1

    await asyncio.gather(*(client(number) for number in range(count)))
    return outcomes


if __name__ == "__main__":
    port, seconds, count = sys.argv[1:]
    print(json.dumps(asyncio.run(clients(int(port), float(seconds), int(count)))))
