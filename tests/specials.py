"""Checkpoints whose special tokens disagree as those of Qwen2.5 and R1-Distill-Qwen do: the ordinary ids are the same,
the special slots are used again for other tokens, and chat template and end tokens differ."""

import json

import torch
from small import byte_tokenizer

TEXTS = ["What is 3 + 4 ? The answer is 7 . Wait , let me check : 3 + 4 = 7 . #### 7"]
QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|box_start|>", "<|box_end|>")
R1 = ("<|end_of_sentence|>", "<|User|>", "<|Assistant|>", "<|begin_of_sentence|>", "<think>", "</think>")
"""The same slots, in the same order."""
QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
R1_TEMPLATE = (
    "<|begin_of_sentence|>{% for m in messages %}<|User|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)


def _tokenizer(pieces, end, template):
    tokenizer = byte_tokenizer(TEXTS, eos=pieces[0], special_first=False)
    tokenizer.add_tokens(list(pieces[1:]), special_tokens=True)
    tokenizer.eos_token, tokenizer.pad_token, tokenizer.chat_template = end, pieces[0], template
    return tokenizer


def qwen():
    """Ends with `<|im_end|>`; its generation_config names `<|endoftext|>` too."""
    return _tokenizer(QWEN, "<|im_end|>", QWEN_TEMPLATE)


def r1():
    """Ends with `<|end_of_sentence|>`, which is the slot of `<|endoftext|>`."""
    return _tokenizer(R1, "<|end_of_sentence|>", R1_TEMPLATE)


def slots():
    """The ids of the special slots, in the order of QWEN and R1."""
    return qwen().convert_tokens_to_ids(list(QWEN))


def save_trio(root):
    """Three small models with random weights in folders of their own: base and zero_rl like Qwen2.5, distilled like
    R1-Distill-Qwen; returns their paths by name."""
    paths = {}
    for seed, (name, tokenizer) in enumerate({"base": qwen(), "distilled": r1(), "zero_rl": qwen()}.items()):
        folder = root / name
        _model(seed, len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        ends = slots()[0] if name == "distilled" else [slots()[2], slots()[0]]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        paths[name] = str(folder)
    return paths


def _model(seed, vocab_size):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen2Config(
        vocab_size=vocab_size,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        **shape,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10.0)
    return model
