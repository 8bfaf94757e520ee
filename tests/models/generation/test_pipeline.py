"""Panoramas from text: seamless, the same for one seed, by pipelines of the real classes with tiny parts."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("peft", reason="peft is not installed")

from dap_engine.models.generation.pipeline import PanoramaGenerator
from dap_engine.models.generation.wrap import WrapAround, wrap_convolutions
from tests.models.generation.tiny_pipelines import save_tiny_flux, save_tiny_lora, save_tiny_stable_diffusion

SIZE = {"height": 32, "steps": 3, "guidance": 2.0}
PROMPTS = ["a kitchen", "a loft at night"]


@pytest.fixture(scope="module")
def flux(tmp_path_factory) -> str:
    return str(save_tiny_flux(tmp_path_factory.mktemp("flux")))


@pytest.fixture(scope="module")
def lora(flux, tmp_path_factory) -> str:
    return str(save_tiny_lora(flux, tmp_path_factory.mktemp("lora")))


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory) -> str:
    return str(save_tiny_stable_diffusion(tmp_path_factory.mktemp("sd")))


@pytest.mark.parametrize(("kind", "wrap"), [("flux", "auto"), ("flux", "rolling"), ("diffusion", "auto")])
def test_a_panorama_follows_from_prompt_and_seed(kind, wrap, request):
    generator = PanoramaGenerator(request.getfixturevalue(kind), device="cpu", wrap=wrap)
    first, second = generator.generate(PROMPTS, [1, 2], **SIZE)
    assert (first.shape, first.dtype, first.std() > 1) == ((32, 64, 3), np.uint8, True)
    assert not np.array_equal(first, second)
    assert np.array_equal(generator.generate(PROMPTS, [1, 2], **SIZE)[1], second)
    assert not np.array_equal(generator.generate(PROMPTS, [1, 3], **SIZE)[1], second)


def test_lora_weights_change_the_picture_whether_a_file_or_a_folder_is_named(flux, lora):
    plain = PanoramaGenerator(flux, device="cpu").generate(PROMPTS[:1], [1], **SIZE)[0]
    with_file = PanoramaGenerator(flux, lora, device="cpu").generate(PROMPTS[:1], [1], **SIZE)[0]
    with_folder = PanoramaGenerator(flux, lora.rpartition("/")[0], device="cpu").generate(PROMPTS[:1], [1], **SIZE)[0]
    assert not np.array_equal(plain, with_file)
    assert np.array_equal(with_file, with_folder)


def test_padding_gives_what_the_pipeline_gives_on_latents_padded_once(flux):
    """As DiT360 does it: columns that stand twice stay equal to what they repeat, from the first step to the last."""
    from diffusers import FluxTransformer2DModel

    network = FluxTransformer2DModel.from_pretrained(flux, subfolder="transformer").eval()
    rows, columns = 4, 6
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, rows * columns, 4, generator=generator)
    places = torch.zeros(rows, columns, 3)
    places[..., 1], places[..., 2] = torch.arange(rows)[:, None], torch.arange(columns)
    known = {
        "encoder_hidden_states": torch.randn(1, 5, 32, generator=generator),
        "pooled_projections": torch.randn(1, 32, generator=generator),
        "txt_ids": torch.zeros(5, 3),
    }

    def padded(grid, dim):
        return torch.cat([grid.select(dim, -1).unsqueeze(dim), grid, grid.select(dim, 0).unsqueeze(dim)], dim)

    with torch.inference_mode():
        once = padded(latents.unflatten(1, (rows, columns)), 2).flatten(1, 2)
        ids = padded(places, 1).flatten(0, 1)
        times = torch.tensor([[1.0], [0.6], [0.2]])
        for time in times:
            once = once - 0.3 * network(hidden_states=once, img_ids=ids, timestep=time, return_dict=False, **known)[0]
        wrapped, always = WrapAround(network, "padding"), latents
        wrapped.begin()
        for time in times:
            found = network(
                hidden_states=always, img_ids=places.flatten(0, 1), timestep=time, return_dict=False, **known
            )
            always = always - 0.3 * found[0]
    expected = once.unflatten(1, (rows, columns + 2))[:, :, 1:-1].flatten(1, 2)
    torch.testing.assert_close(always, expected, atol=1e-5, rtol=1e-5)


def test_rolling_moves_the_border_from_step_to_step_and_nothing_else():
    """A network that knows no border gives the same, wherever that is; one that does gives another picture."""
    grid = torch.arange(2 * 3 * 4 * 8.0).view(2, 3, 4, 8)

    class Border(torch.nn.Module):
        seen: list[float]

        def forward(self, sample, timestep):
            self.seen.append(float(sample[0, 0, 0, 0]))
            return (2 * sample,)

    network = Border()
    network.seen = []
    wrapped = WrapAround(network, "rolling")
    wrapped.begin()
    for time in (9.0, 9.0, 5.0, 1.0):  # twice at one time: with a prompt, and without
        assert torch.equal(network(grid, torch.tensor(time))[0], 2 * grid)
    assert network.seen[0] == network.seen[1] == 0.0
    assert len(set(network.seen)) == 3


def test_a_decoder_looks_across_the_border():
    decoder = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(4, 3, 3, padding=1)
    )
    grid = torch.randn(1, 3, 6, 10, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(decoder(grid.roll(3, -1)), decoder(grid).roll(3, -1), atol=1e-5)
    wrap_convolutions(decoder)
    torch.testing.assert_close(decoder(grid.roll(3, -1)), decoder(grid).roll(3, -1))


def test_what_cannot_be_loaded_is_told_in_one_line(flux, lora, diffusion, tmp_path):
    for model, weights in ((str(tmp_path), None), (flux, str(tmp_path)), (diffusion, lora)):
        with pytest.raises(ValueError, match=r"^\S+") as raised:
            PanoramaGenerator(model, weights, device="cpu")
        assert "\n" not in str(raised.value)
        assert model in str(raised.value)


def test_lora_weights_that_fit_in_part_alone_are_refused(flux, lora, tmp_path):
    here, elsewhere = "single_transformer_blocks.0.attn.to_q", "single_transformer_blocks.7.attn.to_q"
    weights = {name.replace(here, elsewhere): values for name, values in load_file(lora).items()}
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"\d+ of the \d+ LoRA weights fit the pipeline"):
        PanoramaGenerator(flux, str(tmp_path / "other.safetensors"), device="cpu")
    save_file(weights, tmp_path / "second.safetensors")
    with pytest.raises(ValueError, match="2 files of LoRA weights"):
        PanoramaGenerator(flux, str(tmp_path), device="cpu")


def test_padding_is_for_tokens_with_places(diffusion):
    with pytest.raises(TypeError, match="UNet2DConditionModel has no tokens with places"):
        PanoramaGenerator(diffusion, device="cpu", wrap="padding")
