"""Server: models behind OpenAI's protocol."""

from .app import make_app
from .config import ModelConfig, ServerConfig, model_config, overridden, parse_size, read_config
from .served import Models, ServedModel, load_models, serve
from .serving import listen, run

__all__ = [
    "ModelConfig", "Models", "ServedModel", "ServerConfig", "listen", "load_models", "make_app",
    "model_config", "overridden", "parse_size", "read_config", "run", "serve",
]  # fmt: skip
