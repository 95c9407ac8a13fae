"""The decoder contract: one engine loop drives plain decoding, tree verification and block denoising.

The model is a fake whose logits are a hash of exactly what a row sees, so a wrong position, interval,
mask or commit changes the outcome. The tree verifier and the block denoiser are toys that show what
the contract admits; they must give what plain decoding and a direct simulation give.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pytest

from fivefold.core.batch import LOGITS, Commit, Float32, Span, Step
from fivefold.core.decoder import Decision, Decoder
from fivefold.core.request import Request, SamplingParams
from fivefold.decode import AutoregressiveDecoder, Sampler, Stopping

V = 24
END = 23
MASK = 22
CONTEXT = 64


def hashed(position: int, token: int, seen: Sequence[tuple[int, int]]) -> Float32:
    """Logits (V,) of a row at `position`, from the (position, token) pairs that it sees."""
    key = zlib.crc32(repr((position, token, sorted(seen))).encode())
    logits = np.random.default_rng(key).normal(size=V).astype(np.float32) * 2
    logits[MASK] = -np.inf
    return logits


class FakeRunner:
    """Runs steps: a cache of (position -> token) for each sequence, and logits by `hashed`."""

    def __init__(self) -> None:
        self.cache: dict[int, dict[int, int]] = {}
        self.rows = 0
        self.spans: list[Span] = []

    def run(self, step: Step) -> list[Float32]:
        assert len({span.sequence for span in step.spans}) == len(step.spans)
        self.rows += step.rows
        self.spans.extend(step.spans)
        return [self.logits(span) for span in step.spans]

    def logits(self, span: Span) -> Float32:
        rows = len(span.tokens)
        assert rows > 0 and span.tokens.dtype == np.int32 and span.positions.shape == (rows,)
        assert span.visible.shape == (rows, 2)
        assert span.mask is None or (span.mask.shape == (rows, rows) and span.mask.dtype == np.bool_)
        wanted = span.row_sets[LOGITS]
        return np.array([self.row(span, int(row)) for row in wanted], np.float32).reshape(-1, V)

    def row(self, span: Span, row: int) -> Float32:
        start, stop = span.visible[row]
        cached = self.cache.setdefault(span.sequence, {})
        seen = [(place, token) for place, token in cached.items() if start <= place < stop]
        for other, place in enumerate(span.positions.tolist()):
            if start <= place < stop and (span.mask is None or span.mask[row, other]):
                seen.append((place, int(span.tokens[other])))
        return hashed(int(span.positions[row]), int(span.tokens[row]), seen)

    def keep(self, span: Span, commit: Commit) -> None:
        assert commit.sequence == span.sequence
        assert (np.diff(commit.rows) > 0).all()
        cached = self.cache.setdefault(span.sequence, {})
        for row in commit.rows.tolist():
            assert int(span.positions[row]) not in cached
            cached[int(span.positions[row])] = int(span.tokens[row])


def drive(decoders: dict[int, Decoder], limit: int, runner: FakeRunner) -> dict[int, list[Decision]]:
    """What an engine does, blind to the algorithm: rows up to `limit` a step, oldest first."""
    decisions: dict[int, list[Decision]] = {sequence: [] for sequence in decoders}
    waiting = list(decoders)
    while waiting:
        spans, room = [], limit
        for sequence in waiting:
            span = decoders[sequence].propose(room)
            if span is not None:
                assert 0 < len(span.tokens) <= room
                spans.append(span)
                room -= len(span.tokens)
        assert spans, "nobody can go on"
        step = Step(tuple(spans))
        for span, logits in zip(step.spans, runner.run(step), strict=True):
            decoder = decoders[span.sequence]
            decision = decoder.decide(logits)
            runner.keep(span, decision.commit)
            cached = runner.cache[span.sequence]
            assert cached == dict(enumerate(decoder.tokens[: decoder.committed]))
            decisions[span.sequence].append(decision)
            if decision.done:
                waiting.remove(span.sequence)
        waiting = waiting[1:] + waiting[:1]
    return decisions


def emitted(decisions: Sequence[Decision]) -> list[int]:
    return [token for decision in decisions for token in decision.tokens]


def plain(sequence: int, prompt: Sequence[int], params: SamplingParams) -> AutoregressiveDecoder:
    return AutoregressiveDecoder.for_request(
        sequence, Request("r", tuple(prompt), params), V, end_tokens=[END], context=CONTEXT
    )


def simulate(prompt: Sequence[int], params: SamplingParams) -> list[int]:
    """Plain decoding without steps, chunks or caches."""
    sampler, tokens = Sampler(params, V, prompt, [END]), list(prompt)
    stopping = Stopping.of(params, [END], len(prompt), CONTEXT)
    while True:
        logits = hashed(len(tokens) - 1, tokens[-1], list(enumerate(tokens)))
        tokens.append(sampler.sample(logits)[0])
        if stopping.after(tokens[-1], len(tokens) - len(prompt)):
            return tokens[len(prompt) :]


class TreeVerifier:
    """Drafts two branches of two tokens, verifies them in one step, keeps the branch that came true.

    The rows are root, a1, b1, a2, b2 (a letter for a branch). Each drafted token is what sampling
    would choose, so every token is accepted only if the seeded sampler chooses the very same.
    """

    least_rows = 1

    def __init__(self, sequence: int, prompt: Sequence[int], sampler: Sampler, stopping: Stopping) -> None:
        self._sequence, self._prompt_length = sequence, len(prompt)
        self._sampler, self._stopping = sampler, stopping
        self._tokens, self._committed = list(prompt), 0
        self._tree: list[int] = []
        self._proposed = 0
        self.truth: list[int] = []

    @property
    def tokens(self) -> Sequence[int]:
        return self._tokens

    @property
    def committed(self) -> int:
        return self._committed

    def resume(self, cached: int) -> int:
        self._committed = min(cached, len(self._tokens) - 1)
        return self._committed

    def draft(self) -> list[int]:
        """Branch b holds the truth (known to the test), branch a is wrong at its second token."""
        done = len(self._tokens) - self._prompt_length
        right = [*self.truth[done : done + 2], 0, 0][:2]
        if done % 4 == 0:
            right[1] = (right[1] + 1) % V
        return [right[0] ^ 1, right[0], right[1], right[1]]

    def propose(self, limit: int) -> Span | None:
        left = len(self._tokens) - self._committed
        self._tree = self.draft() if left == 1 and limit >= 5 else []
        if not self._tree:
            if limit < 1:
                return None
            chunk = np.array(self._tokens[self._committed :][:limit], np.int32)
            self._proposed = len(chunk)
            wanted = np.array([left - 1] if left <= limit else [], np.int32)
            return Span.causal(self._sequence, chunk, self._committed, wanted)
        root = self._committed
        positions = np.array([root, root + 1, root + 1, root + 2, root + 2], np.int32)
        visible = np.stack([np.zeros(5, np.int32), positions + 1], axis=1)
        mask = np.eye(5, dtype=bool)
        mask[:, 0] = True
        mask[3, 1] = mask[4, 2] = True
        tokens = np.array([self._tokens[-1], *self._tree], np.int32)
        rows = np.arange(5, dtype=np.int32)
        return Span(self._sequence, tokens, positions, visible, mask, {LOGITS: rows})

    def decide(self, logits: Float32) -> Decision:
        if not self._tree:
            return self._settle(list(range(self._proposed)), logits, [])
        return self._settle([0], logits, self._tree)

    def _settle(self, kept: list[int], logits: Float32, tree: list[int]) -> Decision:
        chosen, row = [], 0
        children = {0: (1, 2), 1: (3,), 2: (4,)} if tree else {}
        reason = None
        while len(logits) and reason is None:
            token, _ = self._sampler.sample(logits[row])
            chosen.append(token)
            self._tokens.append(token)
            reason = self._stopping.after(token, len(self._tokens) - self._prompt_length)
            following = [child for child in children.get(row, ()) if tree[child - 1] == token]
            if not following or reason is not None:
                break
            row = following[0]
            kept.append(row)
        self._committed += len(kept)
        return Decision(Commit(self._sequence, np.array(kept, np.int32)), tuple(chosen), (), reason)


BLOCK = 4


class BlockDenoiser:
    """Settles two tokens of a block of masks a step, keeping nothing, then runs it once more to keep it."""

    least_rows = BLOCK

    def __init__(self, sequence: int, prompt: Sequence[int], blocks: int) -> None:
        self._sequence, self._tokens, self._committed = sequence, list(prompt), 0
        self._block = [MASK] * BLOCK
        self._blocks = blocks
        self._proposed = 0

    @property
    def tokens(self) -> Sequence[int]:
        return self._tokens

    @property
    def committed(self) -> int:
        return self._committed

    def resume(self, cached: int) -> int:
        self._committed = min(cached, len(self._tokens))
        return self._committed

    def propose(self, limit: int) -> Span | None:
        start, known = self._committed, self._tokens[self._committed :]
        empty = np.zeros(0, np.int32)
        if known and MASK in self._block:  # still in the prompt
            self._proposed = min(limit, len(known))
            chunk = np.array(known[: self._proposed], np.int32)
            return Span.causal(self._sequence, chunk, start, empty) if limit > 0 else None
        if limit < BLOCK:
            return None
        self._proposed = BLOCK
        positions = np.arange(start, start + BLOCK, dtype=np.int32)
        visible = np.tile(np.array([0, start + BLOCK], np.int32), (BLOCK, 1))
        masked = np.flatnonzero(np.array(self._block) == MASK).astype(np.int32)
        tokens = np.array(self._block, np.int32)
        return Span(self._sequence, tokens, positions, visible, None, {LOGITS: masked})

    def decide(self, logits: Float32) -> Decision:
        everything = Commit(self._sequence, np.arange(self._proposed, dtype=np.int32))
        if len(logits):
            self._block = denoised(self._block, logits)
            if MASK in self._block:
                return Decision(Commit(self._sequence, np.zeros(0, np.int32)))
            self._tokens += self._block
            return Decision(Commit(self._sequence, np.zeros(0, np.int32)), tuple(self._block))
        self._committed += self._proposed
        if MASK in self._block:
            return Decision(everything)
        self._block = [MASK] * BLOCK
        self._blocks -= 1
        return Decision(everything, done="length" if self._blocks == 0 else None)


def denoised(block: list[int], logits: Float32) -> list[int]:
    """The block with its two surest masked tokens settled."""
    masked = [place for place, token in enumerate(block) if token == MASK]
    surest = sorted(range(len(masked)), key=lambda index: -logits[index].max())[:2]
    block = list(block)
    for index in surest:
        block[masked[index]] = int(logits[index].argmax())
    return block


def simulate_denoising(prompt: Sequence[int], blocks: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(blocks):
        block = [MASK] * BLOCK
        while MASK in block:
            seen = list(enumerate([*tokens, *block]))
            places = [place for place, token in enumerate(block) if token == MASK]
            block = denoised(block, np.array([hashed(len(tokens) + p, MASK, seen) for p in places]))
        tokens += block
    return tokens[len(prompt) :]


PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]
SEEDED = SamplingParams(max_tokens=17, seed=5, temperature=0.9, top_p=0.9, repetition_penalty=1.1)


@pytest.mark.parametrize("limit", [1, 3, 8, 100])
@pytest.mark.parametrize("params", [SEEDED, SamplingParams(max_tokens=9, temperature=0)])
def test_plain_decoding_is_the_same_under_any_limit(limit: int, params: SamplingParams) -> None:
    runner = FakeRunner()
    decisions = drive({7: plain(7, PROMPT, params)}, limit, runner)[7]
    output = emitted(decisions)
    assert output == simulate(PROMPT, params)
    assert runner.rows == len(PROMPT) + len(output) - 1
    assert len(decisions) == -(-len(PROMPT) // limit) + len(output) - 1
    assert sum(len(span.row_sets[LOGITS]) for span in runner.spans) == len(output)


def verifier(sequence: int, params: SamplingParams) -> TreeVerifier:
    decoder = TreeVerifier(
        sequence, PROMPT, Sampler(params, V, PROMPT, [END]), Stopping.of(params, [END], len(PROMPT), CONTEXT)
    )
    decoder.truth = simulate(PROMPT, params)
    return decoder


def test_tree_verification_fits() -> None:
    runner = FakeRunner()
    decisions = drive({0: verifier(0, SEEDED)}, 64, runner)[0]
    assert emitted(decisions) == simulate(PROMPT, SEEDED)
    commits = [decision.commit.rows.tolist() for decision in decisions]
    assert [0, 2, 4] in commits and [0, 2] in commits, "commits that are no prefix"
    assert len(decisions) < len(emitted(decisions))


def test_block_denoising_fits() -> None:
    runner = FakeRunner()
    decisions = drive({0: BlockDenoiser(0, PROMPT, 3)}, 6, runner)[0]
    assert emitted(decisions) == simulate_denoising(PROMPT, 3)
    revisited = [span.positions.tolist() for span in runner.spans]
    assert revisited[2:5] == [[8, 9, 10, 11]] * 3
    assert [len(decision.commit.rows) for decision in decisions] == [6, 2, *[0, 0, 4] * 3]


@pytest.mark.parametrize("limit", [5, 9, 40])
def test_all_of_them_share_steps(limit: int) -> None:
    decoders: dict[int, Decoder] = {
        0: plain(0, PROMPT, SEEDED),
        1: verifier(1, SEEDED),
        2: BlockDenoiser(2, PROMPT, 2),
        3: plain(3, PROMPT[:3], SamplingParams(max_tokens=30, temperature=0)),
    }
    assert all(decoder.least_rows <= limit for decoder in decoders.values())
    decisions = drive(decoders, limit, FakeRunner())
    expected = simulate(PROMPT, SEEDED)
    assert emitted(decisions[0]) == expected and emitted(decisions[1]) == expected
    assert emitted(decisions[2]) == simulate_denoising(PROMPT, 2)
    assert emitted(decisions[3]) == simulate(PROMPT[:3], SamplingParams(max_tokens=30, temperature=0))


def test_resume_after_a_prefix_hit_and_after_lost_pages() -> None:
    runner, decoder = FakeRunner(), plain(0, PROMPT, SEEDED)
    runner.cache[0] = dict(enumerate(PROMPT[:5]))
    assert decoder.resume(5) == 5
    span = decoder.propose(100)
    assert span is not None and span.positions.tolist() == [5, 6, 7]
    output: list[int] = []
    while True:
        span = decoder.propose(100)
        assert span is not None
        decision = decoder.decide(runner.logits(span))
        runner.keep(span, decision.commit)
        output += decision.tokens
        if decision.done:
            break
        if len(output) in (2, 6):
            runner.cache[0] = {}
            assert decoder.resume(0) == 0 and decoder.committed == 0
    assert output == simulate(PROMPT, SEEDED)
