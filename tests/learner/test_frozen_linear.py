"""Frozen layers from 16-bit copies: the same outputs and gradients, and only where they gain."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from learner.training import frozen_linear
from learner.training.frozen_linear import FrozenLinear

needs_copies = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="FBGEMM needs AVX2"
)


@pytest.fixture
def amd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr("learner.engine.half._maker", lambda: "AuthenticAMD")


def network(rounded: bool = True) -> nn.Module:
    """Two layers and a head whose weight is the embedding's, all of them frozen."""
    torch.manual_seed(1)
    layers = OrderedDict(
        embedding=nn.Embedding(50, 32), up=nn.Linear(32, 64), silu=nn.SiLU(), down=nn.Linear(64, 32, bias=False),
        head=nn.Linear(32, 50, bias=False),
    )  # fmt: skip
    layers["head"].weight = layers["embedding"].weight
    found = nn.Sequential(layers)
    for parameter in found.parameters():
        parameter.requires_grad_(False)
        if rounded:
            parameter.copy_(parameter.half().float())
    return found


def trained(model: nn.Module, tokens: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The outcome, and the gradient of all that is trained."""
    torch.manual_seed(2)
    with_lora = get_peft_model(model, LoraConfig(r=4, target_modules=["up", "down"], init_lora_weights=False))
    out: Tensor = with_lora.base_model.model(tokens)
    (out.log_softmax(-1) ** 2).sum().backward()
    return out.detach(), {name: p.grad for name, p in with_lora.named_parameters() if p.grad is not None}


@needs_copies
@pytest.mark.parametrize("rows", [3, 40])  # too few for the copies, and enough
def test_outputs_and_gradients_are_the_same(amd: None, rows: int) -> None:
    tokens = torch.randint(0, 50, (1, rows))
    expected, gradients = trained(network(), tokens)
    quick = network()
    assert frozen_linear.install(quick) == 3
    assert quick.get_submodule("head").weight is quick.get_submodule("embedding").weight
    found, found_gradients = trained(quick, tokens)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert len(gradients) == 4
    for name, gradient in gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, rtol=1e-4, atol=1e-4)


@needs_copies
def test_the_copies_are_what_computes(amd: None, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = network()
    frozen_linear.install(quick)
    monkeypatch.setattr("torch.nn.functional.linear", None)  # the way through the weight itself
    assert quick(torch.randint(0, 50, (2, 20))).shape == (2, 20, 50)


@needs_copies
def test_what_is_trained_or_would_change_keeps_its_weight(amd: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert frozen_linear.install(network(rounded=False)) == 0
    some = network()
    some.get_submodule("up").weight.requires_grad_(True)
    assert frozen_linear.install(some) == 2
    assert type(some.get_submodule("up")) is nn.Linear
    monkeypatch.setattr("learner.training.frozen_linear.room_for", lambda nbytes: False)
    assert frozen_linear.install(network()) == 0


def test_elsewhere_layers_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learner.engine.half._maker", lambda: "GenuineIntel")
    plain = network()
    assert frozen_linear.install(plain) == 0
    assert not any(isinstance(one, FrozenLinear) for one in plain.modules())
