"""All tiny pipelines."""

from __future__ import annotations

from tests.zoo import transformers, unets

SPECIMENS = {specimen.name: specimen for specimen in (*unets.SPECIMENS, *transformers.SPECIMENS)}
