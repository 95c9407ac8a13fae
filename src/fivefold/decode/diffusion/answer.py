"""What of a request is final: its tokens, when it ends, and what is reported of them.

Tokens of a block become final together, in their order, and the request ends at the first that ends it; what
was denoised behind that one is nobody's. Only final tokens are counted. Which rows run is not known here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fivefold.core.batch import Commit, Float32, Int32
from fivefold.core.decoder import Decision
from fivefold.core.diffusion import DiffusionRules, Provisional
from fivefold.core.request import FinishReason, Request, TokenLogprob
from fivefold.decode.logprobs import token_logprob
from fivefold.decode.sampling import Sampler
from fivefold.decode.stopping import Stopping

from .block import Block
from .denoisers import Denoiser
from .edits import opened
from .guesses import Guesser, Guesses

_NO_TOKEN = -1
"""In place of an open position: ends nothing."""


class Answer:
    """One request: its final tokens, those that stand behind its answer, and how blocks of it are denoised.

    vocabulary  V.
    """

    def __init__(
        self, request: Request, rules: DiffusionRules, denoiser: Denoiser, sampler: Sampler,
        stopping: Stopping, vocabulary: int,
    ) -> None:  # fmt: skip
        self.tokens = list(request.prompt)
        self.suffix = np.array(request.suffix, np.int32)
        self.rules = rules
        self.denoiser = denoiser
        self.stopping = stopping
        self._prompt = len(request.prompt)
        self._edited = np.array(request.edited, np.int32)
        self._rewritten = request.rewritten
        self._guesser = Guesser(sampler, vocabulary, rules.mask_token)
        self._alternatives = request.sampling.logprobs
        self._logprobs: dict[int, TokenLogprob] = {}

    @property
    def end(self) -> int:
        """The position behind the last token that the answer can have."""
        return self._prompt + self.stopping.most

    def block(self, start: int, size: int, given: Int32) -> Block:
        """A new block at a position, which begins with tokens that are given. What stands in the other places
        is the text that is edited, as far as it goes, then masks or noise."""
        rest = size - len(given)
        mask = self.rules.mask_token
        if self.denoiser.noise or mask is None:
            numbers = np.arange(start + len(given), start + size, dtype=np.int32) - self._prompt
            made = Block.of(given, self._guesser.noise(numbers, -1), masked=False)
        else:
            made = Block.of(given, np.full(rest, mask, np.int32), masked=True)
        first = start + len(given) - self._prompt
        standing = self._edited[first : first + rest]
        return made.begun(standing, unread=self._rewritten > 0) if len(standing) else made

    def asked(self, block: Block) -> Int32:
        """The places of a block that the next step needs guesses for: of one part, where there are parts."""
        places = np.flatnonzero(~block.given if block.unread else self.denoiser.asks(block))
        if self.rules.sub_block and block.masked.any():
            part = int(np.flatnonzero(block.masked)[0]) // self.rules.sub_block
            places = places[places // self.rules.sub_block == part]
        return places.astype(np.int32)

    def denoised(self, start: int, block: Block, places: Int32, logits: Float32) -> Block:
        """The block at a position after a step that gave (R, V) logits for these places of it."""
        guesses = Guesses(
            places.astype(np.intp), logits, self._guesser, places + np.int32(start - self._prompt),
            block.turn, self.denoiser.temperature(block),
        )  # fmt: skip
        if block.unread and self.rules.mask_token is not None:
            after = opened(block, guesses, self._rewritten, self.rules.mask_token)
        else:
            after = self.denoiser.advance(block, guesses)
        if self.rules.conditioned and not after.done:
            after = replace(after, shares=guesses.drawn.shares.astype(np.float32))
        if self._alternatives is not None:
            for place, row in zip(places.tolist(), logits, strict=True):
                token = int(after.tokens[place])
                new = bool(block.masked[place]) or token != block.tokens[place] or self.denoiser.noise
                noted = start + place in self._logprobs
                if (new or not noted) and not after.masked[place]:
                    self._note(start + place, token, row)
        return after

    def over(self, start: int, block: Block) -> bool:
        """Whether nothing of a block at a position matters any more: it is done, or its front is filled up to
        a token that ends the request, and is not edited."""
        if block.done or self.denoiser.rereads or self.denoiser.noise:
            return block.done
        for place in range(len(self.tokens) - start, len(block.tokens)):
            if block.masked[place]:
                return False
            number = start + place - self._prompt + 1
            if self.stopping.after(int(block.tokens[place]), number) is not None:
                return True
        return False

    def provisional(self, start: int, block: Block) -> Provisional:
        """The block at a position as it can be shown: what stands behind a token that would end the request
        is left out, and so is that token where it would be no part of the text. Of a canvas of noise the
        likeliest tokens are shown, and all is open before the first step."""
        tokens, masked = block.tokens, block.masked
        if self.denoiser.noise:
            tokens, masked = (tokens, ~block.given) if block.likeliest is None else (block.likeliest, masked)
        count = len(tokens)
        for place in range(len(self.tokens) - start, count):
            number = start + place - self._prompt + 1
            token = _NO_TOKEN if masked[place] else int(tokens[place])
            reason = self.stopping.after(token, number)
            if reason is not None:
                count = place + (reason == "length")
                break
        return Provisional(start, tuple(tokens[:count].tolist()), tuple(masked[:count].tolist()))

    def seed(self, position: int, logits: Float32) -> int:
        """The token at a position, from (V,) logits alone, before its block begins."""
        token, _ = self._guesser.choose(logits, position - self._prompt, 0, None)
        self._note(position, token, logits)
        return token

    def finish(self, tokens: Int32, commit: Commit) -> Decision:
        """These tokens are final behind those that were, up to the one that ends the request; behind that one
        they may still be masked."""
        fresh: list[int] = []
        logprobs: list[TokenLogprob] = []
        reason: FinishReason | None = None
        for token in tokens.tolist():
            if self._alternatives is not None:
                logprobs.append(self._logprobs.pop(len(self.tokens)))
            fresh.append(token)
            self.tokens.append(token)
            self._guesser.sampler.record(token)
            reason = self.stopping.after(token, len(self.tokens) - self._prompt)
            if reason is not None:
                break
        stop = self.stopping.stop_token(fresh[-1], reason) if fresh else None
        return Decision(commit, tuple(fresh), tuple(logprobs), reason, stop)

    def _note(self, position: int, token: int, logits: Float32) -> None:
        """Note the log probability of a token under (V,) raw logits."""
        if self._alternatives is not None:
            self._logprobs[position] = token_logprob(logits, token, self._alternatives)
