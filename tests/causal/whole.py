"""Small decoders of three architectures, and their logits with a site edited, the whole sequence read without a cache.

The hooks here are written for these three alone and share nothing with `interp.models.hooks`.
"""

from contextlib import ExitStack
from functools import lru_cache

import torch
from small import small_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from interp.causal.decoding import EditedDecoder
from interp.causal.edits import Scene
from interp.generation.part import Job
from interp.generation.sampling import write, writing
from interp.generation.vocabulary import read_vocabulary
from interp.names import COMPARED
from interp.organisms.chains import CHAINS
from interp.organisms.tokenizers import vocabulary
from interp.traces.tokens import encode

KINDS = ("qwen2", "llama", "gpt2")
WIDTH, HEADS = 16, {"qwen2": 2, "llama": 4, "gpt2": 2}


def _llama(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary(CHAINS.tokenizer())),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


def _gpt2(seed):
    torch.manual_seed(seed)
    size = len(vocabulary(CHAINS.tokenizer()))
    config = GPT2Config(vocab_size=size, n_embd=WIDTH, n_layer=3, n_head=2, n_positions=128, eos_token_id=1)
    return GPT2LMHeadModel(config)


@lru_cache
@torch.inference_mode(False)  # whoever asks first: gradients are taken of them
def trio(kind):
    """Name to model, all of one architecture."""
    if kind == "qwen2":
        return {name: small_model(seed) for seed, name in enumerate(COMPARED)}
    models = {name: (_llama if kind == "llama" else _gpt2)(seed) for seed, name in enumerate(COMPARED)}
    for model in models.values():
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(False)
            if parameter.ndim == 2:
                parameter.mul_(20.0 if any(x in name for x in ("embed", "lm_head", "wte")) else 8.0)
        model.eval()
    return models


def _modules(model, layer):
    """(block, attention, projection, MLP)"""
    if isinstance(model, GPT2LMHeadModel):
        block = model.transformer.h[layer]
        return block, block.attn, block.attn.c_proj, block.mlp
    block = model.model.layers[layer]
    return block, block.self_attn, block.self_attn.o_proj, block.mlp


def at_site(model, layer, name, function, stack):
    """Replace a site's activation [1, time, d] by a function of it while `stack` lasts."""
    block, attention, projection, mlp = _modules(model, layer)
    before = []

    def first(output):
        return output[0] if isinstance(output, tuple) else output

    def put(output, new):
        return (new, *output[1:]) if isinstance(output, tuple) else new

    def of_input(_, args, kwargs):
        h = args[0] if args else kwargs["hidden_states"]
        before[:] = [h]
        if name == "resid_mid":
            return None
        new = function(h)
        return ((new, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": new})

    def of_output(_, args, output):
        h = first(output)
        return put(output, function(before[0] + h) - before[0] if name == "resid_mid" else function(h))

    if name in ("resid_pre", "resid_mid"):
        stack.callback(block.register_forward_pre_hook(of_input, with_kwargs=True).remove)
    if name == "z":
        stack.callback(projection.register_forward_pre_hook(of_input, with_kwargs=True).remove)
    where = {"resid_post": block, "attn_out": attention, "resid_mid": attention, "mlp_out": mlp}.get(name)
    if where is not None:
        stack.callback(where.register_forward_hook(of_output).remove)


@lru_cache(maxsize=4096)
@torch.inference_mode()
def activation(model, layer, name, ids):
    """[time, d] at a site, after the ids of a tuple."""
    seen = []

    def keep(h):
        seen.append(h[0].clone())
        return h

    with ExitStack() as stack:
        at_site(model, layer, name, keep, stack)
        model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    return seen[0]


@torch.inference_mode()
def last_logits(model, ids, layer, name, function):
    """Logits after the last token, the site's activation [time, d] being replaced by a function of it."""
    with ExitStack() as stack:
        at_site(model, layer, name, lambda h: function(h[0])[None].to(h.dtype), stack)
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]


TOKENIZER = CHAINS.tokenizer()
VOCABULARY = read_vocabulary(TOKENIZER, len(vocabulary(CHAINS.tokenizer())))


class Logged(EditedDecoder):
    """Keeps, for every row that is still written, (job, row, completion so far, logits)."""

    def start(self):
        super().start()
        self.seen = []

    def step(self, ids, mask, parts):
        logits = super().step(ids, mask, parts)
        at = 0
        for part in parts:
            for i, row in enumerate(part.rows):
                if not part.is_beginning and not part.done[i]:
                    self.seen.append((part.job, row, list(part.written[i]), logits[at].clone()))
                at += 1
        return logits


def last_ones(seen):
    """What was logged last for each row of each job: after all that was read before it, from the cache."""
    return [*{(job, row): (job, row, *rest) for job, row, *rest in seen}.values()]


def generated(models, edits, prompts, *, steps=4, temperature=0.0, edited="distilled", own=None, seed=0):
    """(rollouts by job, the running edits, what was logged): each edit is a job on all prompts, which are texts or
    ids; `own` are other models' prompts."""
    encoded = [encode(TOKENIZER, p) if isinstance(p, str) else p for p in prompts]
    running = [edit.start(Scene(VOCABULARY, len(prompts), seed, temperature)) for edit in edits]
    own = {name: [texts] * len(edits) for name, texts in (own or {}).items()}
    decoder = Logged(models, edited, running, VOCABULARY, own)
    jobs = [Job(encoded, range(len(prompts)), one) for one in running]
    rollouts = write(decoder, TOKENIZER, jobs, writing(TOKENIZER, steps, temperature, seed, ()))
    return rollouts, running, decoder.seen
