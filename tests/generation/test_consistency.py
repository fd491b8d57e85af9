"""Which widths and lengths leave bits alone is measured; here on models that are made to differ, and on a real one."""

from typing import Any

import pytest
import torch

from ostinato.generation.consistency import all_reaches, equal_shapes, powers_of_two
from tests.generation.models import model

CPU = torch.device("cpu")


class Uneven(torch.nn.Module):
    """A model whose logits tell how it was computed: below `width` rows, beyond `reach`, from slot `slot`, ..."""

    def __init__(self, width: int = 0, reach: int = 1 << 30, slot: int = 1 << 30, prompts: int = 9) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.width, self.reach, self.slot, self.prompts = width, reach, slot, prompts

    def config_dict(self) -> dict[str, Any]:
        return {"width": self.width, "reach": self.reach, "slot": self.slot, "prompts": self.prompts}

    def miniature(self) -> Any:
        return lambda vocabulary: self

    def decoding(self, slots: int, length: int) -> "Uneven":
        return self

    def read(self, prompts: list[torch.Tensor]) -> list[tuple[torch.Tensor, None]]:
        return [(torch.zeros(10) + float(len(prompts) > self.prompts), None) for _ in prompts]

    def place(self, slot: int, prompt: None) -> None: ...

    def step(self, tokens: torch.Tensor, lengths: torch.Tensor, longest: int) -> torch.Tensor:
        logits = (tokens + lengths)[:, None].float().expand(-1, 10).clone()
        logits[self.slot :] += 1
        return logits + float(len(tokens) < self.width) + float(longest > self.reach)


@pytest.mark.parametrize(
    ("uneven", "widths", "reaches"),
    [
        (Uneven(), (1, 2, 4, 8, 16), all_reaches(2048, CPU)),
        (Uneven(width=4), (4, 8, 16), all_reaches(2048, CPU)),
        (Uneven(width=99), (1, 2, 4, 8, 16), all_reaches(2048, CPU)),  # narrow or not, all are computed alike
        (Uneven(reach=300), (1, 2, 4, 8, 16), [reach for reach in all_reaches(2048, CPU) if reach > 300]),
        (Uneven(prompts=1), (1, 2, 4, 8, 16), all_reaches(2048, CPU)),  # together prompts are read otherwise
        (Uneven(slot=15), (16,), all_reaches(2048, CPU)),  # not even the full width is: nothing may vary
    ],
)
def test_what_differs_is_found(uneven: Uneven, widths: tuple[int, ...], reaches: list[int]) -> None:
    assert equal_shapes(uneven, 16, 512, CPU) == (widths, reaches, uneven.prompts > 1)


def test_models_that_offer_little_get_constants() -> None:
    class OnlyDecoding(Uneven):
        def miniature(self) -> None:
            return None

    assert equal_shapes(OnlyDecoding(), 16, 512, CPU) == ((16,), [2048], False)
    rowwise = equal_shapes(torch.nn.Linear(2, 2), 16, 512, CPU)  # computed row by row
    assert rowwise == ((1, 2, 4, 8, 16), all_reaches(2048, CPU), True)


def test_a_transformer_is_measured_with_shapes_of_its_own() -> None:
    net = model(length=256)
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    state = torch.get_rng_state()
    small = net.miniature()(None)
    assert len(small.model.layers) == 1 and small.shape.width == net.shape.width
    assert all(0.5 < weight.std() * weight.shape[-1] ** 0.5 < 1.5 for weight in small.parameters())  # none is zero
    with torch.no_grad():
        widths, reaches, _ = equal_shapes(net, 8, 256, CPU)
    assert widths[-1] == 8 and reaches[-1] == 256
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())


def test_widths_and_reaches() -> None:
    assert powers_of_two(1) == (1,) and powers_of_two(8) == (1, 2, 4, 8)
    assert all_reaches(20, CPU) == [20] and all_reaches(32, CPU) == [32] and all_reaches(100, CPU) == [32, 64, 96, 100]
    far = all_reaches(8192, CPU)
    assert far[-1] == 8192 and far == sorted(set(far)) and len(far) < 60
    assert all(later <= max(earlier + 32, earlier * 1.25) for earlier, later in zip(far, far[1:], strict=False))
    assert all_reaches(1000, torch.device("cuda")) == [32, 64, 128, 256, 512, 1000]
