"""The network: an image's logits do not depend on the images beside it."""

import torch
from ostinato.core.inputs import ModelInputs
from ostinato.training.initialise import draw_parameters

from {{name}}.models.resnet import ResNet


def fresh(**options: int) -> ResNet:
    model = ResNet(ModelInputs(0, 0), **options)
    draw_parameters(model, 0)
    return model.double()


def test_an_image_is_seen_alone():
    model, images = fresh(width=8), torch.rand(5, 1, 20, 20, dtype=torch.float64)
    together = model(images)
    alone = torch.cat([model(image[None]) for image in images])
    assert together.shape == (5, 10)
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-7)


def test_at_first_a_block_passes_on_what_it_is_given():
    model, x = fresh(width=8, stages=1), torch.rand(2, 8, 6, 6, dtype=torch.float64)
    assert torch.equal(model.stages[0](x), x)
