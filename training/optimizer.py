"""The denoiser's optimizer: Muon for its matrices, AdamW for everything else (docs/decisions/0048-muon.md)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

BY_ADAMW = ("embedding", "conv_in", "conv_out")
"""Parts of the names of the matrices that AdamW updates: embeddings of tokens, positions and timesteps, and the first
and the last convolution."""


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024; scaled as in arXiv 2502.16982) for hidden weights, AdamW for all other parameters.

    A convolution's weights (out, in, h, w) are updated as a matrix (out, h·w·in), which must be a view of them, so they
    have to be channels-last; raises ``ValueError`` otherwise. Both optimizers have the same learning rate, because
    Muon's update is scaled to the size of AdamW's.
    """

    def __init__(self, model: nn.Module, weight_decay: float = 1e-3) -> None:
        named = dict(model.named_parameters())
        hidden = [name for name, p in named.items() if p.ndim >= 2 and not any(part in name for part in BY_ADAMW)]
        others = [p for name, p in named.items() if name not in hidden]
        self._matrices = [(named[name], nn.Parameter(as_matrix(named[name].data))) for name in hidden]
        for weight, matrix in self._matrices:
            if weight.data_ptr() != matrix.data_ptr():
                raise ValueError(f"weights {tuple(weight.shape)} are not channels-last, so Muon would update a copy")
        matrices = [matrix for _, matrix in self._matrices]
        self._muon = torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self._adamw = torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
        super().__init__(named.values(), {"lr": 0.0})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters by their gradients, at the learning rate of this optimizer's group."""
        for group in (*self._muon.param_groups, *self._adamw.param_groups):
            group["lr"] = self.param_groups[0]["lr"]
        for weight, matrix in self._matrices:
            matrix.grad = None if weight.grad is None else as_matrix(weight.grad)
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adamw.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ``SystemExit`` for the state of another optimizer."""
        if state_dict.keys() != {"muon", "adamw"}:
            raise SystemExit("the checkpoint is of another optimizer; begin anew from an export of it, with --init")
        self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])


def as_matrix(weight: Tensor) -> Tensor:
    """Weights (out, in, ...) as a matrix (out, rest), without a copy if a convolution's are channels-last."""
    if weight.ndim == 4:
        weight = weight.permute(0, 2, 3, 1)
    return weight.reshape(len(weight), -1)
