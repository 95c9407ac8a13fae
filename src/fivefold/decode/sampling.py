"""The choice of the next token from logits.

In this order, which is vLLM's: logit bias, penalties, ban of the stop tokens below `min_tokens`;
then, unless greedy, temperature, min-p, top-k and top-p, and a draw. The draw is a function of
(seed, number of the output token, logits) alone: the random number comes from a counter-based
generator (Philox) with the seed as key and the token's number as counter, and turns into a token
by inversion of the cumulative distribution in the order of the vocabulary. So it does not matter
which requests run beside this one, how the prompt was cut in chunks, or whether drafts were
verified on the way. Log probabilities are reported from the raw logits, before all of the above,
as vLLM (v1) does by default. Grammars, and the text of the tokens, are not known here.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence

import numpy as np

from fivefold.core.batch import Float32
from fivefold.core.errors import FivefoldError, InputError, NotFiniteError
from fivefold.core.request import SamplingParams, TokenLogprob
from fivefold.decode.filters import Float64, Indices, min_p, top_k, top_p
from fivefold.decode.logprobs import token_logprob
from fivefold.decode.penalties import Penalties
from fivefold.executor import draw, largest_logit

_KEY_MASK = (1 << 128) - 1
_COLD = 1e-6
_NONE_LEFT = -2


def uniform(seed: int, counter: int) -> float:
    """The random number in [0, 1) that belongs to a seed and a counter, on every machine the same."""
    bits = int(np.random.Philox(key=seed & _KEY_MASK, counter=counter).random_raw())
    return (bits >> 11) * 2.0**-53


class Sampler:
    """Chooses the tokens of one request, one after the other.

    vocabulary_size  V. A `logit_bias` outside of it raises InputError.
    prompt           the prompt's tokens, for the repetition penalty.
    end_tokens       the model's own end tokens, banned with `stop_token_ids` below `min_tokens`.
    """

    def __init__(
        self,
        params: SamplingParams,
        vocabulary_size: int,
        prompt: Sequence[int] = (),
        end_tokens: Collection[int] = (),
    ) -> None:
        self._params = params
        self._vocabulary_size = vocabulary_size
        self._penalties = Penalties(params, vocabulary_size, prompt)
        for token in params.logit_bias:
            if not 0 <= token < vocabulary_size:
                raise InputError(
                    f"token {token} is not in the vocabulary",
                    where="logit_bias",
                    remedy=f"give tokens from 0 to {vocabulary_size - 1}",
                )
        self._biased = np.array(list(params.logit_bias), np.intp)
        self._bias = np.array(list(params.logit_bias.values()), np.float32)
        stops = {*end_tokens, *params.stop_token_ids}
        self._stops = np.array(sorted(t for t in stops if 0 <= t < vocabulary_size), np.intp)
        drawn = 0 if params.temperature == 0.0 else secrets.randbits(64)
        self._seed = drawn if params.seed is None else params.seed
        self._count = 0

    @property
    def seed(self) -> int:
        """The seed in use: the given one, or the one that was drawn; 0 for a greedy request, which is to be
        the same each time also where a denoiser draws noise."""
        return self._seed

    @property
    def count(self) -> int:
        """Tokens chosen so far; also the counter of the next random number."""
        return self._count

    def sample(self, logits: Float32) -> tuple[int, TokenLogprob | None]:
        """Choose the next token from (V,) raw logits, which are left as they are.

        Returns the token and, if the request asks for log probabilities, its own. -inf forbids a
        token. NotFiniteError when the logits hold NaN or +inf, FivefoldError when no token is left to
        choose.
        """
        token, _ = self.guess(logits, self._count, self._count)
        wanted = self._params.logprobs
        logprob = None if wanted is None else token_logprob(logits, token, wanted)
        self.record(token)
        return token, logprob

    def guess(
        self, logits: Float32, number: int, counter: int, temperature: float | None = None
    ) -> tuple[int, Float32]:
        """The token that (V,) raw logits give as output token `number` (from 0) with the random number of
        `counter`, and the logits after bias, penalties and bans. Nothing is recorded of it.

        `temperature` in place of the request's own. Raises what `sample` raises.
        """
        if logits.shape != (self._vocabulary_size,):
            raise ValueError(f"logits of shape {logits.shape}, vocabulary of {self._vocabulary_size}")
        best = _best(logits)
        adjusted = self._adjusted(logits, number)
        if adjusted is not logits:
            best = _best(adjusted)
        chosen = self._params.temperature if temperature is None else temperature
        if chosen == 0.0:
            return best, adjusted
        return self._draw(adjusted, float(adjusted[best]), counter, chosen), adjusted

    def is_greedy(self, number: int, temperature: float | None = None) -> bool:
        """Whether output tokens from `number` on are the likeliest of the raw logits, as far as is known."""
        chosen = self._params.temperature if temperature is None else temperature
        return chosen == 0.0 and not self._adjusts(number)

    def record(self, token: int) -> None:
        """Count a token of the output: penalties know it from now on."""
        self._penalties.record(token)
        self._count += 1

    def shares(self, adjusted: Float32, temperature: float | None = None) -> Float64:
        """(V,) probabilities that `guess` draws by, of (V,) adjusted logits; their softmax if greedy."""
        chosen = self._params.temperature if temperature is None else temperature
        largest = float(adjusted.max())
        if chosen == 0.0:
            weights = np.exp(adjusted.astype(np.float64) - largest)
            return np.asarray(weights / weights.sum())
        kept, weights = self._candidates(adjusted, largest, chosen)
        shares = np.zeros(len(adjusted))
        shares[slice(None) if kept is None else kept] = weights / weights.sum()
        return shares

    def _adjusted(self, logits: Float32, number: int = 0) -> Float32:
        """Logits of output token `number` after bias, penalties and bans; the same array if nothing changes
        them."""
        if not self._adjusts(number):
            return logits
        adjusted = logits.copy()
        adjusted[self._biased] += self._bias
        self._penalties.apply(adjusted)
        if self._bans(number):
            adjusted[self._stops] = -np.inf
        return adjusted

    def _adjusts(self, number: int) -> bool:
        return self._bans(number) or self._penalties.active or len(self._biased) > 0

    def _bans(self, number: int) -> bool:
        return number < self._params.min_tokens and len(self._stops) > 0

    def _draw(self, logits: Float32, largest: float, counter: int, temperature: float) -> int:
        """Draw from (V,) adjusted logits whose largest is finite."""
        if temperature < _COLD:
            return self.draw_slowly(logits, largest, counter, temperature)
        params, number = self._params, uniform(self._seed, counter)
        return draw(logits, temperature, params.top_k, params.top_p, params.min_p, number)

    def draw_slowly(
        self, logits: Float32, largest: float, counter: int | None = None, temperature: float | None = None
    ) -> int:
        """The same in float64 with numpy: the reference, and for temperatures too small for float32."""
        chosen = self._params.temperature if temperature is None else temperature
        kept, weights = self._candidates(logits, largest, chosen)
        cumulative = np.cumsum(weights)
        goal = uniform(self._seed, self._count if counter is None else counter) * float(cumulative[-1])
        position = int(np.searchsorted(cumulative, goal, side="right"))
        return position if kept is None else int(kept[position])

    def _candidates(
        self, logits: Float32, largest: float, temperature: float
    ) -> tuple[Indices | None, Float64]:
        """Tokens that may be drawn, ascending (None for all), and their weights, likeliest 1."""
        params = self._params
        kept: Indices | None = None
        # Top-k and min-p keep fronts of the same ranking, so their order does not matter.
        if 0 < params.top_k < len(logits):
            kept = top_k(logits, params.top_k)
        scaled = (logits if kept is None else logits[kept]).astype(np.float64)
        scaled -= largest
        with np.errstate(over="ignore"):
            scaled /= temperature
        if params.min_p > 0.0:
            front = min_p(scaled, params.min_p)
            kept, scaled = (front if kept is None else kept[front]), scaled[front]
        weights = np.exp(scaled, out=scaled)
        if params.top_p < 1.0:
            front = top_p(weights, params.top_p)
            kept, weights = (front if kept is None else kept[front]), weights[front]
        return kept, weights


def _best(logits: Float32) -> int:
    """The likeliest token, of equals the first; an error if its logit or another is not finite."""
    best = largest_logit(logits)
    if best >= 0:
        return best
    if best == _NONE_LEFT:
        raise FivefoldError(
            "no token may be chosen: all logits are -inf",
            where="sampling",
            remedy="relax logit_bias or min_tokens",
        )
    strange = int(np.argmax(~(logits < np.inf)))
    raise NotFiniteError(f"the logits are not finite: {logits[strange]} for token {strange}")
