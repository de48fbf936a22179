"""Where a test runs: on the CPU, and once more on a GPU where there is one."""

from __future__ import annotations

import pytest
import torch

WITH_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, WITH_CUDA])]
