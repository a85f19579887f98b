"""What a step does to the weights: decay, clipping, the scale of half-precision gradients."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")

from tiny_runs import Counting, tiny_run  # noqa: E402
from tinyzh.train.device import Workers  # noqa: E402
from tinyzh.train.learner import Learner  # noqa: E402
from tinyzh.train.model import Llama  # noqa: E402
from tinyzh.train.optimizer import Optimizer  # noqa: E402

CPU = torch.device("cpu")


def made(**changes: object) -> tuple[Llama, Optimizer]:
    run = tiny_run(**changes)
    torch.manual_seed(1)
    model = Llama(run.model)
    return model, Optimizer(model, run.training, CPU)


def with_gradients(model: Llama, value: float) -> dict[str, torch.Tensor]:
    """Every gradient is ``value``; returns copies of the weights."""
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, value)
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_matrices_decay_and_norms_do_not(optimizer: str) -> None:
    model, adam = made(optimizer=optimizer, weight_decay=0.5)
    before = with_gradients(model, 0.0)
    adam.step(0.1)
    for name, parameter in model.named_parameters():
        kept = 1.0 if "rms" in name else 1 - 0.1 * 0.5
        torch.testing.assert_close(parameter.detach(), kept * before[name], msg=name)
        assert parameter.grad is None


def test_the_rate_is_that_of_the_step() -> None:
    """AdamW's first step goes by the rate, whatever the gradient."""
    model, adam = made(weight_decay=0.0, grad_clip=0.0)
    before = with_gradients(model, 3.0)
    adam.step(0.01)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] - 0.01, msg=name)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_gradients_are_clipped_together(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their common norm, of all parameters, is at most ``grad_clip``."""
    norms = []

    def look(self: torch.optim.Optimizer, *args: object, **options: object) -> None:
        norms.append(sum((p.grad**2).sum() for g in self.param_groups for p in g["params"]) ** 0.5)

    for clip, expected in ((0.5, 0.5), (1e6, None), (0.0, None)):
        model, optimiser = made(optimizer=optimizer, grad_clip=clip)
        with_gradients(model, 0.3)
        whole = 0.3 * sum(p.numel() for p in model.parameters()) ** 0.5
        norms.clear()
        with monkeypatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", look)
            patch.setattr(torch.optim.Muon, "step", look)
            optimiser.step(0.1)
        found = sum(float(norm) ** 2 for norm in norms) ** 0.5
        assert found == pytest.approx(expected or whole, rel=1e-3)


def test_half_precision_gradients_are_scaled_and_a_step_too_far_is_left_out() -> None:
    """On the CPU too, where no run may have it: the arithmetic is the same."""
    half, scaling = made(precision="float16", grad_clip=0.0, weight_decay=0.0)
    plain, optimizer = made(grad_clip=0.0, weight_decay=0.0)
    one = torch.ones(())
    assert scaling.scaled(one) > 1000
    assert optimizer.scaled(one) == 1
    rows = torch.from_numpy(Counting().batch(0, 4, 16))
    for model, steps in ((half, scaling), (plain, optimizer)):
        steps.scaled(model.loss(rows[:, :-1], rows[:, 1:])).backward()
        steps.step(0.01)
    for (name, weight), expected in zip(half.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, msg=name)

    before, scale = with_gradients(half, float("inf")), scaling.scaled(one).item()
    scaling.step(0.01)
    for name, weight in half.named_parameters():
        assert torch.equal(weight, before[name]), name
    assert scaling.scaled(one) == scale / 2
    _, restored = made(precision="float16")
    restored.load_state_dict(scaling.state_dict())
    assert restored.scaled(one) == scale / 2
    # A run may go on in another precision.
    restored.load_state_dict(optimizer.state_dict())
    assert restored.scaled(one) > 1000
    optimizer.load_state_dict(restored.state_dict())
    assert optimizer.scaled(one) == 1


def test_products_are_in_the_precision_of_the_settings_and_weights_are_not() -> None:
    seen: dict[str, set[torch.dtype]] = {}
    for precision in ("float32", "bfloat16"):
        run = tiny_run(precision=precision)
        learner = Learner(run, run.training, Workers("cpu"))
        products = seen.setdefault(precision, set())
        learner.model.layers[0].attention.wq.register_forward_hook(
            lambda module, inputs, output, products=products: products.add(output.dtype)
        )
        losses = [learner.learn(Counting().batch(step, 4, 16), 1e-2) for step in range(40)]
        assert losses[-1] < 0.8 * losses[0]
        assert {p.dtype for p in learner.model.parameters()} == {torch.float32}
        learner.loss_on(Counting().batch(0, 4, 16))
    assert seen == {"float32": {torch.float32}, "bfloat16": {torch.bfloat16}}
