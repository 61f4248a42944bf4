"""Marks for what needs a CUDA device: such a test is collected, named and skipped aloud where there is none."""

import pytest
import torch

GPU_MARKS = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="not yet run on a GPU: torch sees no CUDA device here"),
]
