"""The engine over Hugging Face transformers."""

from kindling.worker.adapters.transformers_engine.architectures import is_supported, supported_architectures
from kindling.worker.adapters.transformers_engine.directory_source import DirectoryWeightSource
from kindling.worker.adapters.transformers_engine.engine import TransformersEngine
from kindling.worker.adapters.transformers_engine.tiny_model import run_tiny_model

__all__ = ["DirectoryWeightSource", "TransformersEngine", "is_supported", "run_tiny_model", "supported_architectures"]
