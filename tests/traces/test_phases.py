import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import byte_tokenizer

from interp.names import VERIFICATION
from interp.organisms.chains import CHAINS
from interp.organisms.kinds import KINDS, kinds_of
from interp.tasks.chains import ChainTask
from interp.traces.labels import token_offsets
from interp.traces.lexicon import load_lexicon
from interp.traces.phases import EXPLORATION, FRAMING, PHASES, SYNTHESIS, stage_lengths, stage_spans
from interp.traces.tokens import encode

LEXICON = load_lexicon("default")
TRACE = (
    "Okay, we need the price of 3 pens. Each costs 2.5 euros.\n"
    "First 3 * 2.5 = 8. So 8 it may be.\n\n"
    "Wait, is that so? Let me check. Again 3 * 2.5 = 7.5! ...\n"
    "What if tax counts? It does not. Now I see how. Nothing else.\n"
    "The final answer is 7.5.\n#### 7.5"
)


def staged(text):
    return [(text[s.start : s.end].strip(), s.label) for s in stage_spans(text, LEXICON)]


def test_a_trace_by_hand():
    assert staged(TRACE) == [
        ("Okay, we need the price of 3 pens. Each costs 2.5 euros.", FRAMING),
        ("First 3 * 2.5 = 8. So 8 it may be.\n\nWait, is that so?", EXPLORATION),
        ("Let me check. Again 3 * 2.5 = 7.5! ...", VERIFICATION),
        ("What if tax counts? It does not.", EXPLORATION),
        ("Now I see how.", SYNTHESIS),
        ("Nothing else.", EXPLORATION),
        ("The final answer is 7.5.\n#### 7.5", SYNTHESIS),
    ]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", []),
        ("\n\n", [FRAMING]),
        ("We are asked for x.", [FRAMING]),
        ("Hmm. We are asked for x.", [EXPLORATION]),
        ("Let me check. So \\boxed{7}", [VERIFICATION, SYNTHESIS]),
        ("#### Step one\nWe add.", [FRAMING]),
        ("3 + 4 = 7 ; 3 + 4 = 7", [EXPLORATION, VERIFICATION]),
    ],
)
def test_rules(text, labels):
    assert [s.label for s in stage_spans(text, LEXICON)] == labels


@given(
    st.lists(
        st.sampled_from(["Wait.", "3 + 4 = 7;", "check", "\n", "What if?", "####", " 7", "So.", "..."]), max_size=12
    )
)
@settings(max_examples=150, deadline=None)
def test_stages_tile_the_text_and_neighbours_differ(parts):
    text = " ".join(parts)
    spans = stage_spans(text, LEXICON)
    assert "".join(text[s.start : s.end] for s in spans) == text
    assert all(a.label != b.label for a, b in itertools.pairwise(spans))
    assert sum(stage_lengths(spans).values()) == len(text)
    assert {s.label for s in spans} <= set(PHASES)


def test_shares_in_tokens_count_every_token_once():
    tokenizer = byte_tokenizer([TRACE] * 3)
    offsets = token_offsets(tokenizer, encode(tokenizer, TRACE))
    spans = stage_spans(TRACE, LEXICON)
    tokens = stage_lengths(spans, offsets)
    assert sum(tokens.values()) == len(offsets)
    one_a_character = [(i, i + 1) for i in range(len(TRACE))]
    assert stage_lengths(spans, one_a_character) == stage_lengths(spans)
    assert stage_lengths([], []) == dict.fromkeys(PHASES, 0)


def test_only_organisms_that_recompute_verify():
    rng, shares = random.Random(0), {}
    for kind in kinds_of(CHAINS):
        texts = [KINDS[kind].write(p.prompt, rng, CHAINS) for p in ChainTask().problems(200, 0, "train")]
        texts = [" ".join(w for w in text.split() if w != "check") for text in texts]  # the one verification pivot
        lengths = [stage_lengths(stage_spans(text, LEXICON)) for text in texts]
        shares[kind] = sum(n[VERIFICATION] for n in lengths) / sum(map(len, texts))
    assert min(shares.pop("functional"), shares.pop("coupled")) > 0.1
    assert min(shares.pop("redundant"), shares.pop("mixed")) > 0.03, (
        "in a quarter of the traces, or a fifth of the noise"
    )
    assert max(shares.values()) < 0.02
