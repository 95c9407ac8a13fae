"""Server: models behind OpenAI's protocol."""

from .app import make_app
from .config import ModelConfig, ServerConfig, model_config, overridden, parse_size, read_config
from .memory import available_memory
from .models import Models, Source
from .served import ServedModel, serve
from .serving import listen, run
from .table import LocalEntry, Maker, Table

__all__ = [
    "LocalEntry", "Maker", "ModelConfig", "Models", "ServedModel", "ServerConfig", "Source", "Table",
    "available_memory", "listen", "make_app", "model_config", "overridden", "parse_size", "read_config",
    "run", "serve",
]  # fmt: skip
