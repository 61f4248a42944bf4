"""Runs packed rows through the model."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from kindling.worker.adapters.transformers_engine.kv_cache import KvCache
from kindling.worker.adapters.transformers_engine.packing import Chunk, pack
from kindling.worker.adapters.transformers_engine.parameters import Parameters


class Runner:
    """One model and its KV cache; each run is one forward over one packed row."""

    def __init__(self, model: PreTrainedModel, parameters: Parameters, cache: KvCache, device: torch.device) -> None:
        self._model = model
        self._parameters = parameters
        self._cache = cache
        self._device = device

    def run(self, chunks: Sequence[Chunk]) -> tuple[tuple[Chunk, ...], torch.Tensor]:
        """Run chunks whose KV room is reserved.

        Returns the chunks after which a token is to be chosen and their logits, float32 [chunks, vocabulary].
        """
        packed = pack(chunks, self._cache, self._device)
        output = self._model(
            input_ids=packed.token_ids,
            position_ids=packed.positions,
            use_cache=False,
            logits_to_keep=packed.sampled_rows,
            packed=packed,
        )
        self._parameters.settle()
        return packed.sampled, output.logits[0].float()
