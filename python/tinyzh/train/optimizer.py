"""How a step changes the weights: AdamW or Muon, and the course of the learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .config import Training

__all__ = ["Average", "Optimizer", "learning_rate"]


def learning_rate(training: Training, step: int, progress: float) -> float:
    """A linear warm-up over steps, times a cosine over the ``progress`` from 0 to 1."""
    cosine = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
    rate = training.min_lr + (training.lr - training.min_lr) * cosine
    return rate * min(1.0, (step + 1) / (training.warmup + 1))


class Optimizer:
    """AdamW for everything; or Muon for the matrices of the layers and AdamW for the rest.

    Matrices decay, norms do not. Muon's steps are scaled to the size of AdamW's, so that both take
    the same learning rate.
    """

    def __init__(self, model: nn.Module, training: Training, device: torch.device) -> None:
        inner: list[nn.Parameter] = []  # the matrices of the layers
        outer: list[nn.Parameter] = []  # the embedding, and the classifier if it is another one
        norms: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            kind = norms if parameter.dim() < 2 else inner if name.startswith("layers.") else outer
            kind.append(parameter)
        muon = training.optimizer == "muon"
        decay = training.weight_decay
        groups: list[dict[str, Any]] = [
            {"params": outer if muon else [*outer, *inner], "weight_decay": decay},
            {"params": norms, "weight_decay": 0.0},
        ]
        self._parameters = [*outer, *inner, *norms]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                groups,
                lr=training.lr,
                betas=(training.beta1, training.beta2),
                fused=device.type in ("cpu", "cuda"),
            )
        ]
        if muon:
            self._parts.append(
                torch.optim.Muon(
                    inner, lr=training.lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
                )
            )
        self._clip = training.grad_clip
        # fp16 gradients are scaled up, or the small ones would be zero
        self._scaler = torch.amp.GradScaler(device.type, enabled=training.precision == "float16")

    def scaled(self, loss: Tensor) -> Tensor:
        """What to call backward() of."""
        return self._scaler.scale(loss)

    def step(self, rate: float) -> None:
        """Applies the gradients, which are zero afterwards."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
            self._scaler.unscale_(part)
        if self._clip:
            nn.utils.clip_grad_norm_(self._parameters, self._clip)
        for part in self._parts:
            self._scaler.step(part)
        self._scaler.update()
        self.forget_gradients()

    def forget_gradients(self) -> None:
        """As if no loss had been differentiated."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        parts = [part.state_dict() for part in self._parts]
        return {"parts": parts, "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse."""
        for part, saved in zip(self._parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        if state["scaler"]:  # of a run in float16
            self._scaler.load_state_dict(state["scaler"])


class Average:
    """A running average of the weights, which often tells better stories than the last ones."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Takes in the weights after a step; early ones are forgotten sooner."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            self.weights[name].lerp_(parameter, 1 - decay)
