"""The Transformers backend: models that no family here describes run through Transformers' modelling code.

Only attention is ours: it is registered with Transformers as one more implementation, keeps keys and values
in pages, and attends for each sequence over its own. So rows of many requests go through the model as one
long text, and the scheduler, prefix sharing and the server work as they do for native families. Code that
comes with a model is never run. A model whose attention cannot be replaced, or that keeps anything else
between steps, is refused.

Importing this needs the extra `transformers`; nothing else in the package imports it but by
`backends.extra`.
"""

from fivefold.backends.extra import MissingExtraError

try:
    import torch as _torch  # noqa: F401
    import transformers as _transformers  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        f"the Transformers backend cannot be imported ({error})", remedy="pip install fivefold[transformers]"
    ) from None

from .loading import open_runner
from .outline import outline
from .runner import TransformersRunner

__all__ = ["TransformersRunner", "open_runner", "outline"]
