"""Tokenizers by checkpoint, fetched from the cluster once and kept while there is room."""

import asyncio
import tempfile
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from opentelemetry import trace

from kindling.gateway.adapters.model_files import ModelFiles
from kindling.gateway.adapters.tokenizer import TransformersTokenizer, import_library, read_tokenizer
from kindling.gateway.background import Background
from kindling.gateway.domain.model_info import ModelInfo

tracer = trace.get_tracer(__name__)


class TokenizerCache:
    """Implements :class:`kindling.gateway.ports.Tokenizers`.

    A checkpoint never changes, so its digest is the key. A tokenizer is loaded once however many ask for it; one
    that could not be loaded is tried again by the next who asks.
    """

    def __init__(self, files: ModelFiles, background: Background, capacity: int) -> None:
        self._files = files
        self._background = background
        self._capacity = capacity
        self._loads: OrderedDict[str, asyncio.Task[TransformersTokenizer]] = OrderedDict()
        self._executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenizer")
        self._library: Future[None] | None = None

    async def get(self, model: ModelInfo) -> TransformersTokenizer:
        """Return the tokenizer of the model's checkpoint; see the port."""
        task = self._loads.get(model.digest)
        if task is not None and task.done() and not task.cancelled() and task.exception() is None:
            self._loads.move_to_end(model.digest)
            return task.result()
        # A request that waits for this tells so in its trace.
        with tracer.start_as_current_span("gateway.load_tokenizer", attributes={"kindling.model": model.name}):
            return await asyncio.shield(self._loading(model))

    async def __aenter__(self) -> Self:
        # Seconds that the first request of a cold start would otherwise wait for.
        self._library = self._executor.submit(import_library)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _loading(self, model: ModelInfo) -> asyncio.Task[TransformersTokenizer]:
        task = self._loads.get(model.digest)
        if task is None or task.done():
            task = self._loads[model.digest] = self._background.start(self._load(model))
        self._loads.move_to_end(model.digest)
        while len(self._loads) > self._capacity:
            self._loads.popitem(last=False)
        return task

    async def _load(self, model: ModelInfo) -> TransformersTokenizer:
        files = await self._files.read(model)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._read, files)

    def _read(self, files: dict[str, bytes]) -> TransformersTokenizer:
        # The library's lazy modules break when two threads import them at once.
        if self._library is not None:
            self._library.result()
        with tempfile.TemporaryDirectory(prefix="kindling-tokenizer-") as name:
            directory = Path(name)
            for path, content in files.items():
                (directory / path).write_bytes(content)
            return TransformersTokenizer(read_tokenizer(directory), self._executor)
