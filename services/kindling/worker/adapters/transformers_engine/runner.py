"""Runs packed rows through the model."""

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel

from kindling.worker.adapters.transformers_engine.kv_cache import KvCache
from kindling.worker.adapters.transformers_engine.packing import Chunk, Layout, pack


class Runner:
    """One model and its KV cache; each run is one forward over one packed row. ``settle`` is called after each."""

    def __init__(
        self,
        model: PreTrainedModel,
        cache: KvCache,
        device: torch.device,
        layout: Layout,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._model = model
        self._cache = cache
        self._device = device
        self._layout = layout
        self._settle = settle

    def run(self, chunks: Sequence[Chunk]) -> tuple[tuple[Chunk, ...], torch.Tensor]:
        """Run chunks whose KV room is reserved.

        Returns the chunks after which a token is to be chosen and their logits, float32 [chunks, vocabulary].
        """
        packed = pack(chunks, self._cache, self._device, self._layout)
        output = self._model(
            input_ids=packed.token_ids,
            position_ids=packed.positions,
            use_cache=False,
            logits_to_keep=packed.sampled_rows,
            packed=packed,
        )
        self._settle()
        return packed.sampled, output.logits[0, : len(packed.sampled)].float()
