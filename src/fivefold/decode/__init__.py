"""Decoding: which rows a sequence runs next, and which tokens come of them.

Each decoder here fulfils `core.decoder.Decoder`, by which the engine drives it without knowing the
algorithm. Choosing a token from logits is shared by all of them. Schedulers, caches and models are
not known here.
"""

from fivefold.decode.acceptance import Hope
from fivefold.decode.autoregressive import AutoregressiveDecoder
from fivefold.decode.logprobs import log_normalizer, token_logprob
from fivefold.decode.sampling import Sampler
from fivefold.decode.speculative import SpeculativeDecoder
from fivefold.decode.stopping import Stopping

__all__ = [
    "AutoregressiveDecoder", "Hope", "Sampler", "SpeculativeDecoder", "Stopping", "log_normalizer",
    "token_logprob",
]  # fmt: skip
