import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from small import byte_tokenizer

from interp.causal.style import (
    Recomputation,
    ban,
    control_bans,
    control_words,
    spelled_by_one,
    spelled_by_several,
    vocabulary_pieces,
)
from interp.generation.sampling import CachedModel, generate, generate_copies
from interp.organisms.documents import MARKERS, functional
from interp.tasks.chains import ChainTask
from interp.traces.lexicon import load_lexicon
from interp.traces.segment import recomputations

LEXICON = load_lexicon("default")
PHRASES = replace(LEXICON, markers={"realization": ("wait", "right now", "now next then", "onward")})
"""Phrases that the organisms' vocabulary can spell, of one to three tokens."""
PROMPTS = [f"Q {i} + {j} A" for i in range(8) for j in range(8)]


@pytest.fixture(scope="module")
def pieces(tokenizer):
    return vocabulary_pieces(tokenizer, len(tokenizer))


def ids(tokenizer, text):
    return torch.tensor(tokenizer.encode(text, add_special_tokens=False))


def test_every_id_that_spells_a_marker_is_banned_and_no_other(tokenizer, pieces):
    banned = spelled_by_one(pieces, LEXICON, tokenizer.all_special_ids)
    assert {pieces[i] for i in banned} == set(MARKERS)


def test_spaces_capitals_and_special_tokens():
    pieces = ["wait", " Wait", "WAIT ", "await", " waiting", "\nHmm", "wait", "."]
    assert spelled_by_one(pieces, LEXICON, special=[6]) == [0, 1, 2, 5]


def test_longer_markers_are_found_with_a_space_and_a_capital():
    """In a byte-level vocabulary without merges over spaces every phrase takes several tokens."""
    tokenizer = byte_tokenizer(["let me check . Let me check . hold on Hold on"] * 3, vocab_size=290)
    phrases = replace(LEXICON, markers={"v": ("hold on", "let me check")})
    found = spelled_by_several(tokenizer, phrases, single=[])
    assert max(len(before) for before, _ in found) > 1
    spelled = {tokenizer.decode([*before, last]) for before, last in found}
    lower = {"hold on", "let me check"}
    assert spelled == {f"{space}{text}" for space in ("", " ") for text in lower | {t.capitalize() for t in lower}}


def banned_run(model, tokenizer, pieces, *, banned):
    single = spelled_by_one(pieces, PHRASES, tokenizer.all_special_ids)
    several = spelled_by_several(tokenizer, PHRASES, single)
    mask = torch.zeros(2, len(pieces), dtype=torch.bool)
    mask[1, single] = True
    edits = [ban(mask, several)] if banned else []
    return generate_copies(CachedModel(model), tokenizer, PROMPTS * 4, 2, max_new_tokens=40, edits=edits)


def test_a_ban_leaves_no_marker_of_any_length_and_touches_no_other_copy(model, tokenizer, pieces):
    free = banned_run(model, tokenizer, pieces, banned=False)
    said = [s for r in free[1] for s in PHRASES.marker_spans(r.text)]
    assert any(s.end - s.start == len("right now") for s in said), "no long marker to ban"
    untouched, without = banned_run(model, tokenizer, pieces, banned=True)
    assert untouched == free[0]
    assert not [s for r in without for s in PHRASES.marker_spans(r.text)]
    assert any("right" in r.text.split() for r in without), "the parts of a phrase stay allowed"


def test_an_ending_is_forbidden_only_after_what_comes_before_it():
    mask = torch.zeros(1, 6, dtype=torch.bool)
    mask[0, 0] = True
    tokens = torch.tensor([[5, 2, 3], [5, 3, 2], [2, 3, 5]])
    logits = torch.zeros(3, 6)
    ban(mask, [([2, 3], 4)])(tokens, logits, torch.zeros(3, dtype=torch.long))
    assert torch.isinf(logits).int().tolist() == [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]


def test_a_text_shorter_than_a_phrase_is_no_error():
    """A question of one token, before a marker of four."""
    mask = torch.zeros(1, 6, dtype=torch.bool)
    mask[0, 0] = True
    logits = torch.zeros(1, 6)
    ban(mask, [([1, 2, 3], 4)])(torch.tensor([[2, 3]]), logits, torch.zeros(1, dtype=torch.long))
    assert torch.isinf(logits).int().tolist() == [[1, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("candidates", [[3], [3, 5], list(range(2, 13)), list(range(20, 32))])
def test_control_bans_are_halves_of_the_candidates(candidates):
    bans = control_bans(candidates, 50, 40, np.random.default_rng(0))
    assert bans.shape == (50, 40)
    assert set(bans.sum(1).tolist()) == {max(1, len(candidates) // 2)}
    assert set(bans.any(0).nonzero().squeeze(1).tolist()) <= set(candidates)
    if len(candidates) > 3:
        assert len({tuple(row) for row in bans.tolist()}) > 10


def test_control_words_are_the_most_frequent_words_that_are_no_markers():
    pieces = ["wait", " then", "7", "x", "next", "=", " here", "##a", "below"]
    counts = np.array([90, 5, 80, 70, 40, 60, 50, 30, 0])
    assert control_words(pieces, counts, banned=[0], n=10) == [6, 4, 1]
    assert control_words(pieces, counts, banned=[0], n=2) == [6, 4]


@pytest.mark.parametrize(
    ("text", "earlier"),
    [
        ("3 + 4 = 8 , wait , 3 + 4 =", "8"),
        ("3 + 4 = 7 , next , 3 + 4 =", "7"),
        ("Q 3 + 4 - 2 A 3 + 4 = 8 , 3 + 4 =", "8"),
        ("3 + 4 = 8 , wait , 3 + 4 = 7 , check , 3 + 4 =", "7"),
        ("3 + 4 = 8 ; 8 - 2 =", None),
        ("3 + 4 =", None),
        ("3 + 4 = 8 , wait , 4 + 3 =", None),
        ("3 + 4 = 8 , wait , 3 - 4 =", None),
        ("3 + 4 = 8 , wait , 3 + 4", None),
        ("3 + 4 = 8 , wait , 3 + 4 = 7", None),
        ("3 + 4 = 8 ; 8 - 2 = 6 , wait , 3 + 4 =", None),
        ("3 + 4 = 8 , 3 + 4 = = ", None),
    ],
)
def test_pending_recomputations(tokenizer, pieces, text, earlier):
    found = Recomputation(tokenizer, pieces).pending(ids(tokenizer, text))
    assert (None if found is None else pieces[found]) == earlier


def test_pending_agrees_with_the_labels_of_the_finished_text(tokenizer, pieces):
    """At every `=` of functional traces: a recomputation is pending exactly where the finished equation is one."""
    again, rng, seen = Recomputation(tokenizer, pieces), random.Random(0), 0
    for problem in ChainTask().problems(60, 0, "train"):
        words = functional(problem.prompt, rng).split()
        for at, word in enumerate(words):
            if word != "=":
                continue
            text = " ".join(words[: at + 2])
            pairs = [first for first, second in recomputations(text) if second.end == len(text)]
            found = again.pending(ids(tokenizer, " ".join(words[: at + 1])))
            assert (None if found is None else pieces[found]) == (pairs[0].result if pairs else None)
            seen += bool(pairs)
    assert seen > 20


def test_echo_forces_the_earlier_result_in_its_copies_only(tokenizer, pieces):
    text = ids(tokenizer, "3 + 4 = 8 , wait , 3 + 4 =")
    other = ids(tokenizer, "3 + 4 = 8 , wait ; 8 + 4 =")
    tokens, before = torch.stack([text, text, other]), torch.randn(3, len(pieces))
    logits = before.clone()
    Recomputation(tokenizer, pieces).echo([1, 2])(tokens, logits, torch.tensor([0, 1, 2]))
    assert torch.equal(logits[[0, 2]], before[[0, 2]])
    assert torch.isfinite(logits[1]).nonzero().tolist() == [[pieces.index("8")]]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_redraw_samples_what_the_model_would_say(tokenizer, pieces, temperature):
    """One result is left, drawn as often as its probability at the temperature, whatever the sampler's own noise."""
    text = ids(tokenizer, "3 + 4 = 8 , wait , 3 + 4 =")
    n = 4000
    before = torch.full((len(pieces),), -torch.inf)
    before[[pieces.index("7"), pieces.index("8")]] = torch.tensor([2.0, 1.0])
    logits = before.repeat(n, 1)
    redraw = Recomputation(tokenizer, pieces).redraw(range(n), seed=0, temperature=temperature)
    redraw(text.repeat(n, 1), logits, torch.arange(n))
    assert torch.isfinite(logits).sum(1).eq(1).all()
    share = float(torch.isfinite(logits[:, pieces.index("7")]).float().mean())
    assert abs(share - 1 / (1 + np.exp(-1 / temperature))) < 4 * (0.25 / n) ** 0.5


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_redraw_samples_at_the_studys_temperature(tokenizer, pieces, temperature):
    """Logits 2 and 1 leave odds of exp(1 / T) to one."""
    text, n = ids(tokenizer, "3 + 4 = 8 , wait , 3 + 4 ="), 2000
    logits = torch.full((n, len(pieces)), -torch.inf)
    logits[:, [pieces.index("7"), pieces.index("8")]] = torch.tensor([2.0, 1.0])
    redraw = Recomputation(tokenizer, pieces).redraw(range(n), seed=0, temperature=temperature)
    redraw(text.repeat(n, 1), logits, torch.arange(n))
    share = float(torch.isfinite(logits[:, pieces.index("7")]).float().mean())
    assert abs(share - 1 / (1 + np.exp(-1 / temperature))) < 4 * (0.25 / n) ** 0.5


def test_a_redraw_is_the_same_in_any_batch(tokenizer, pieces):
    texts = [ids(tokenizer, f"3 + {i} = 8 , wait , 3 + {i} =") for i in range(1, 9)]
    padded = [torch.cat([torch.tensor([tokenizer.pad_token_id] * 3), text]) for text in texts]
    logits = torch.randn(8, len(pieces), generator=torch.Generator().manual_seed(0))
    copy = torch.arange(8) % 2
    again = Recomputation(tokenizer, pieces)
    together, alone = logits.clone(), logits.clone()
    again.redraw([0, 1], seed=0, temperature=1.0)(torch.stack(padded), together, copy)
    for i in reversed(range(8)):
        again.redraw([0, 1], seed=0, temperature=1.0)(texts[i][None], alone[i : i + 1], copy[i : i + 1])
    assert torch.equal(together, alone)


def test_a_greedy_redraw_takes_the_best(tokenizer, pieces):
    text = ids(tokenizer, "3 + 4 = 8 , wait , 3 + 4 =")[None]
    logits = torch.randn(1, len(pieces))
    best = int(logits.argmax())
    Recomputation(tokenizer, pieces).redraw([0], seed=0, temperature=0.0)(text, logits, torch.zeros(1).long())
    assert torch.isfinite(logits).nonzero().tolist() == [[0, best]]


@pytest.mark.parametrize("vocab_size", [270, 320])
@pytest.mark.parametrize("space", [" ", ""])
@pytest.mark.parametrize("result", ["7", "128", "-35", "4.25"])
def test_results_of_several_tokens_are_echoed_token_by_token(vocab_size, space, result):
    """A greedy run that is forced from the equals sign on writes the earlier result and stops being forced there."""
    written = f"12{space}*{space}34{space}={space}{result}"
    start = f"{written} , wait , 12{space}*{space}34{space}="
    tokenizer = byte_tokenizer([f"{written} , wait , {written} ."] * 3, vocab_size=vocab_size)
    again = Recomputation(tokenizer, vocabulary_pieces(tokenizer, len(tokenizer)))
    tokens = ids(tokenizer, start)
    for _ in range(12):
        rows = again.rows(tokens[None], torch.ones(1, dtype=torch.bool))
        if not rows:
            break
        tokens = torch.cat([tokens, torch.tensor([rows[0][1]])])
    assert tokenizer.decode(tokens) == start + space + result


def test_a_result_that_has_left_the_earlier_one_is_not_forced():
    tokenizer = byte_tokenizer(["1 + 2 = 34"], vocab_size=270)
    again = Recomputation(tokenizer, vocabulary_pieces(tokenizer, len(tokenizer)))
    for text in ("1 + 2 = 34 , 1 + 2 = 9", "1 + 2 = 34 , 1 + 2 = 34", "1 + 2 = 34 , 1 + 3 = 3", "1 + 2 = 34"):
        assert again.pending(ids(tokenizer, text)) is None
    assert tokenizer.decode([again.pending(ids(tokenizer, "1 + 2 = 34 , 1 + 2 = 3"))]) == "4"


def test_an_echoed_run_never_corrects_itself(model, tokenizer, pieces):
    """With a model that is made to recompute: the second result is always the first."""
    script = ids(tokenizer, "3 + 4 =").tolist()

    def recompute_always(tokens, logits, copy):
        """Write `3 + 4 = d , 3 + 4 = d , ...`, the digits being the model's own."""
        at = (tokens.shape[1] - 4) % 6  # after the prompt `Q 0 + i A`, five tokens
        cycle = [*script, None, ids(tokenizer, ",").item()]
        wanted = cycle[(at - 1) % 6]
        keep = torch.zeros(logits.shape[1], dtype=torch.bool)
        keep[[pieces.index(str(d)) for d in range(10)] if wanted is None else [wanted]] = True
        logits.masked_fill_(~keep, -torch.inf)

    again = Recomputation(tokenizer, pieces)
    prompts = [f"Q 0 + {i % 10} A" for i in range(64)]

    def run(edits):
        return generate(CachedModel(model), tokenizer, prompts, max_new_tokens=11, edits=edits)

    def changed(rollouts):
        pairs = [pair for r in rollouts for pair in recomputations(r.text)]
        assert len(pairs) == len(prompts)
        return sum(first.result != second.result for first, second in pairs)

    assert changed(run([recompute_always])) > 30
    assert changed(run([recompute_always, again.echo([0])])) == 0
