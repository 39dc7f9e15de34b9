"""Small models, crosscoders and tokenizers with random weights, none of them at its start."""

import torch

from interp.crosscoder import Crosscoder, CrosscoderConfig

D_MODEL, LAYERS, HEADS = 16, 3, 2


def small_model(seed=0, d_model=D_MODEL, layers=LAYERS, heads=HEADS):
    """An organism's architecture whose next-token distribution is neither flat nor one-hot."""
    from interp.organisms.architecture import make_model
    from interp.organisms.chains import CHAINS

    model = make_model(d_model, layers, heads, seed, CHAINS.tokenizer())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(25.0 if "embed" in name or "lm_head" in name else 10.0)
    return model.eval().requires_grad_(False)


def residual(model, layer, **inputs):
    """`blocks.{layer}.hook_resid_post`."""
    from interp.models.hooks import Site, read_sites

    return read_sites(model, (Site(layer),), **inputs)[Site(layer)]


def small_crosscoder(n_models=3, d_model=D_MODEL, n_latents=24, seed=0, threshold=0.9):
    crosscoder = Crosscoder(CrosscoderConfig(n_models=n_models, d_model=d_model, n_latents=n_latents, k=4), seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for tensor in crosscoder.parameters():
            tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
        crosscoder.mean.normal_(generator=generator)
        factors = 0.3 + 1.7 * torch.rand(len(crosscoder.scale), 1, generator=generator)
        crosscoder.scale.copy_(factors.expand_as(crosscoder.scale))
        crosscoder.threshold.fill_(threshold)
    return crosscoder.requires_grad_(False)


def code64(crosscoder, x):
    """The gated code of rows, straight from the protocol, in fp64."""
    w_enc, w_dec = crosscoder.W_enc.double(), crosscoder.W_dec.double()
    normal = (x.double() - crosscoder.mean.double()) * crosscoder.scale.double()
    f = (torch.einsum("bmd,mdl->bl", normal, w_enc) + crosscoder.b_enc.double()).clamp(min=0)
    return f * (f * w_dec.norm(dim=2).sum(1) > crosscoder.threshold.double())


def byte_tokenizer(texts, vocab_size=300, eos="<|end|>", special_first=True):
    """A byte-level BPE tokenizer, as GPT-2's, Qwen's and Llama 3's are; `<|end|>` has id 0 if `special_first`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[eos] if special_first else [],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=eos)
