"""Edits of phrases, on writers that cut them in every way: ban, substitute, affirm, insert."""

import itertools
from dataclasses import replace

import pytest
import torch
from generation.writers import LEXICON, Bigram, bigram, tokenizer_of, vocabulary_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from interp.causal.edits import NoEdit, Scene, affirm, ban, fired, insert, substitute
from interp.causal.edits.affirm import SILENCE
from interp.errors import InterpError
from interp.generation.part import Job
from interp.generation.sampling import CachedModel, write, writing
from interp.generation.vocabulary import Vocabulary, read_vocabulary
from interp.organisms.chains import CHAINS, NEUTRAL
from interp.organisms.tokenizers import vocabulary as every_token
from interp.traces.lexicon import load_lexicon
from interp.traces.tokens import encode

SIZES = (257, 290, 330, 400)
PHRASES, NEUTRALS = tuple(LEXICON.class_of), LEXICON.neutral
DEFAULT = load_lexicon("default")
LIMIT, ROWS = 24, 60


def run(size, edit, temperature=1.0, seed=0, rows=ROWS, limit=LIMIT, writer=None, vocabulary=None, tokenizer=None):
    """(completions, how often the edit fired in each)."""
    vocabulary, tokenizer = vocabulary or vocabulary_of(size), tokenizer or tokenizer_of(size)
    scene = Scene(vocabulary, rows, seed, temperature)
    running = edit.start(scene)
    prompts = [[5, 10 + i % 20] for i in range(rows)]
    how = writing(tokenizer, limit, temperature, seed, ())
    (rollouts,) = write(writer or bigram(size), tokenizer, [Job(prompts, range(rows), running)], how)
    return rollouts, fired(running)


def markers(rollout, lexicon=LEXICON):
    text = rollout.text.replace("\ufffd", " ")
    return [text[s.start : s.end] for s in lexicon.marker_spans(text)]


def spelled_in_bytes(size, marker):
    """A curly apostrophe of three tokens, which no piece shows."""
    return "’" in marker and "’" not in vocabulary_of(size).pieces


def scripted(edit, *pieces, limit=LIMIT):
    """(text, how often the edit fired, completion) of a greedy writer of these pieces from any prompt on, all of which
    its vocabulary has beside single letters; they must differ."""
    letters = vocabulary_of(257)
    vocabulary = Vocabulary(letters.tokenizer, (*letters.pieces, *(p for p in pieces if p not in letters.pieces)))
    ids = [*(vocabulary.pieces.index(piece) for piece in pieces), 0]
    assert len(set(ids)) == len(ids)
    table = torch.full((len(vocabulary), len(vocabulary)), -30.0)
    table[:, ids[0]] = 0.0
    for a, b in itertools.pairwise(ids):
        table[a] = -30.0
        table[a, b] = 0.0
    (rollout,), (n,) = run(257, edit, 0.0, rows=1, writer=Bigram(table), vocabulary=vocabulary, limit=limit)
    may_act = edit.may_act(Scene(vocabulary, 1, 0, 0.0), ids[:-1], "".join(pieces))
    return vocabulary.text(rollout.completion_ids), n, may_act


EDITS = {"ban": lambda: ban(PHRASES), "substitute": lambda: substitute(PHRASES, NEUTRALS)}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", EDITS)
def test_no_marker_is_left(name, size, temperature):
    """Completions of 24 tokens, in most of which the writer would write one, often as the last token of all."""
    edited, counts = run(size, EDITS[name](), temperature, seed=1)
    left = [m for r in edited for m in markers(r) if not spelled_in_bytes(size, m)]
    assert not left
    untouched, _ = run(size, NoEdit(), temperature, seed=1)
    had = [bool(markers(r)) for r in untouched]
    if temperature:
        assert sum(had) > 8 and any(r.text.endswith(m) for r in untouched for m in markers(r))
        assert sum(counts) >= sum(had)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", EDITS)
def test_where_no_marker_is_chosen_the_run_is_the_untouched_one(name, size):
    edited, counts = run(size, EDITS[name]())
    untouched, _ = run(size, NoEdit())
    for new, old, n in zip(edited, untouched, counts, strict=True):
        assert (new == old) == (n == 0)
        if any(not spelled_in_bytes(size, m) for m in markers(old)):
            assert n > 0
    assert 5 < sum(n == 0 for n in counts) < ROWS


@given(size=st.sampled_from(SIZES), seed=st.integers(2, 10**6), greedy=st.booleans())
@settings(max_examples=5)
@pytest.mark.parametrize("name", [*EDITS, "affirm"])
def test_where_an_edit_may_not_act_the_run_is_the_untouched_one(name, size, seed, greedy):
    edit = EDITS[name]() if name in EDITS else affirm(LEXICON)
    temperature = 0.0 if greedy else 1.0
    edited, counts = run(size, edit, temperature, seed, rows=25)
    untouched, _ = run(size, NoEdit(), temperature, seed, rows=25)
    scene = Scene(vocabulary_of(size), 1, seed, temperature)
    for new, old, n in zip(edited, untouched, counts, strict=True):
        if not edit.may_act(scene, old.completion_ids, old.text):
            assert new == old and n == 0


@pytest.mark.parametrize(
    ("pieces", "acts"),
    [
        ([" hold", " on", "ly"], True),
        ([" but", "ton"], True),
        ([" button"], False),
        ([" await", " ", "the"], False),
        ([" attribute"], False),
        ([" hold", " only"], False),
        ([" bu", "t", "ton"], False),
        ([" bu", "t", " we"], True),
        ([" bu", "t,"], True),
        ([" bu", "t"], True),
        ([" hold", " ", "on"], True),
        ([" hold", "\n", "on"], True),
        ([" hold", "\n", "\n\n", "on"], False),
        ([" let", "’s", " see"], True),
        (["b", "u", "t", "ter"], False),
    ],
)
@pytest.mark.parametrize("name", EDITS)
def test_words_that_only_hold_a_phrase_can_still_be_written(name, pieces, acts):
    """A piece that begins a word is taken for the whole of it, and `may_act` knows."""
    assert scripted(NoEdit(), *pieces)[:2] == ("".join(pieces), 0)
    text, n, may_act = scripted(EDITS[name](), *pieces)
    assert (n > 0) == acts == (text != "".join(pieces))
    assert may_act or not acts


def writer_of(scores, *pieces):
    """(writer of bigrams, vocabulary): logits of pairs of pieces, -9 where none is given; each piece is an id."""
    letters = vocabulary_of(257)
    vocabulary = Vocabulary(letters.tokenizer, (*letters.pieces, *pieces))
    table = torch.full((len(vocabulary), len(vocabulary)), -9.0)
    for (before, after), score in scores.items():
        rows = slice(None) if before is None else vocabulary.pieces.index(before)
        table[rows, vocabulary.pieces.index(after)] = score
    return Bigram(table), vocabulary


def test_a_banned_word_is_not_written_in_another_way_again_and_again():
    """Greedy, and it would rather write "but" in any of three ways than anything else: each is forbidden in turn, and
    stays so at that place."""
    inside = {("bu", "t"): 3.0, ("b", "u"): 3.0, ("u", "t"): 3.0, ("x", ""): 9.0}
    start = {(None, " "): 0.0, (" ", " "): -9.0, (" ", "but"): 3.0, (" ", "bu"): 2.0, (" ", "b"): 1.0, (" ", "x"): 0.5}
    writer, vocabulary = writer_of(start | inside, "bu", "but")
    (rollout,), (n,) = run(257, ban(("but",)), 0.0, rows=1, writer=writer, vocabulary=vocabulary, limit=12)
    assert vocabulary.text(rollout.completion_ids) == " x" and rollout.finished
    assert n == 5, "the token 'but' three times, and two words that were taken back"


def test_a_token_that_is_a_phrase_at_a_words_edge_has_no_probability_there():
    """The run is that of a writer who never chooses it there, on the same noise; inside a word it is left alone."""
    scores = {
        (None, "("): 0.0,
        ("(", "but"): 0.5,
        ("(", "s"): 0.0,
        ("(", "("): -9.0,
        ("s", "but"): 0.0,
        ("s", "("): 0.0,
    }
    (writer, vocabulary), (never, _) = (writer_of(scores | more, "but") for more in ({}, {("(", "but"): -1e9}))
    edited, counts = run(257, ban(("but",)), writer=writer, vocabulary=vocabulary)
    wanted, _ = run(257, NoEdit(), writer=never, vocabulary=vocabulary)
    assert edited == wanted and sum(counts) > ROWS
    assert any("sbut" in vocabulary.text(r.completion_ids) for r in edited)


@pytest.mark.parametrize(
    ("pieces", "edited"),
    [
        ([" wait", " x"], " next"),
        ([" Wait", " x"], " Next"),
        (["W", "ait", "."], "Next"),
        ([" bu", "t", "."], " next"),
        ([" Bu", "t,"], " Next,"),
        (["(", "wait", "."], "(next"),
        ([".\n", "Hold", "\n", "on", "!"], ".\nNext"),
        ([" x", " let", "’s", " see"], " x next"),
    ],
)
def test_the_neutral_word_stands_as_the_marker_did(pieces, edited):
    """With its space, its capital, and what came before; where the next token showed that the word was over, that
    token is dropped with it and chosen anew."""
    text, n, _ = scripted(substitute(PHRASES, ("next",)), *pieces, limit=12)
    assert n >= 1 and text.startswith(edited) and not LEXICON.marker_spans(text.replace("next", "."))


def test_fired_counts_the_places():
    pieces = (" wait", ",", " the", " but", ".", " hold", " on")
    assert scripted(substitute(PHRASES, (" the",)), *pieces, limit=2)[1] == 1
    assert scripted(ban(("however",)), *pieces)[1] == 0
    assert scripted(ban(("the",)), *pieces)[1] == 1
    # after the letter e of "the", the writer begins again
    text, n, _ = scripted(substitute(("wait",), ("the",)), *pieces, limit=9)
    assert text == " the the the"[: len(text)] and n == 3


def test_the_mass_of_markers_goes_to_the_neutral_words_in_proportion(tokenizer):
    """One token each. Chi-square of 5,000 first tokens against the writer's own probabilities."""
    words, n = every_token(CHAINS.tokenizer()), 5_000
    torch.manual_seed(0)
    logits = 1.2 * torch.randn(len(words))
    logits[:3] = -torch.inf
    table = logits.repeat(len(words), 1)
    marked = [words.index(w) for w in ("wait", "hmm", "check")]
    neutral = [words.index(w) for w in NEUTRAL]
    vocabulary = read_vocabulary(tokenizer, len(words))
    edit = substitute(("wait", "hmm", "check"), NEUTRAL)
    for temperature in (1.0, 0.5):
        rollouts, counts = run(
            0, edit, temperature, rows=n, limit=1, writer=Bigram(table), vocabulary=vocabulary, tokenizer=tokenizer
        )
        expected = (logits.double() / temperature).softmax(0)
        mass, free = expected[marked].sum().item(), expected[neutral].clone()
        expected[neutral] += mass * free / free.sum()
        expected[marked] = 0
        seen = torch.bincount(torch.tensor([r.completion_ids[0] for r in rollouts]), minlength=len(words))
        assert seen[marked].sum() == 0
        kept = expected > 0
        assert chisquare(seen[kept].numpy(), n * expected[kept].numpy()).pvalue > 0.001
        assert abs(sum(counts) - n * mass) < 5 * (n * mass) ** 0.5
        evenly = expected.clone()
        evenly[neutral] = free + mass / len(neutral)
        assert chisquare(seen[kept].numpy(), n * evenly[kept].numpy()).pvalue < 1e-4, "the test can tell evenly"


class Logged(CachedModel):
    """Keeps the logits with the texts after which they stand."""

    def start(self):
        super().start()
        self.seen = []

    def step(self, ids, mask, parts):
        logits = super().step(ids, mask, parts)
        if not parts[0].is_beginning:
            texts = [p + w for part in parts for p, w in zip(part.prompts, part.written, strict=True)]
            going = [not done for part in parts for done in part.done]
            self.seen += [(t, x) for t, x, on in zip(texts, logits.clone(), going, strict=True) if on]
        return logits


@pytest.mark.parametrize("name", EDITS)
def test_words_of_several_tokens_are_taken_back_and_what_stands_is_read(name, model, tokenizer):
    """A small model whose vocabulary writes "wait" as "wa" and "it": every logit is that of the text as it stands,
    read whole without a cache."""
    words = every_token(CHAINS.tokenizer())
    pieces = [f" {w}" for w in words]
    pieces[words.index("7")], pieces[words.index("8")], pieces[words.index("9")] = " wa", "it", "b"
    pieces[words.index("6")], pieces[words.index("5")] = "ut", "."
    pieces[:3] = ["", "", ""]
    vocabulary = Vocabulary(tokenizer, tuple(pieces))
    prompts = [encode(tokenizer, f"Q {i % 7} A" + " then" * (i % 4)) for i in range(24)]
    logits_for = {words.index(w): 4.0 for w in "7865"}

    class Often(Logged):
        def step(self, ids, mask, parts):
            logits = super().step(ids, mask, parts)
            for token, add in logits_for.items():
                logits[:, token] += add
            return logits

    by = ("next", "now here")
    edit = ban(("wait", "but")) if name == "ban" else substitute(("wait", "but"), by)
    running = edit.start(Scene(vocabulary, len(prompts), 0, 1.0))
    decoder = Often(model)
    (rollouts,) = write(decoder, tokenizer, [Job(prompts, range(24), running)], writing(tokenizer, 14, 1.0, 0, ()))
    texts = [vocabulary.text(r.completion_ids) for r in rollouts]
    lexicon = replace(LEXICON, markers={"x": ("wait", "but")})
    assert not [t for t in texts if lexicon.marker_spans(t)] and sum(fired(running)) > 8
    if name == "substitute":
        assert sum(t.count(" next") + t.count(" now here") for t in texts) >= sum(fired(running)) > 0
    with torch.inference_mode():
        for text, logits in decoder.seen[::3]:
            whole = model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]
            torch.testing.assert_close(logits, whole, atol=2e-3, rtol=1e-3)


def test_bans_and_substitutions_of_bundled_lexicons(tokenizer):
    assert set(ban("default").phrases) == set(DEFAULT.class_of) == set(substitute("default").phrases)
    assert substitute("default").by == DEFAULT.neutral
    assert ban("default").name == "ban default markers" and ban(["Wait", "wait"]).phrases == ("wait",)
    with pytest.raises(InterpError, match="no neutral words"):
        substitute(["wait"])
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    with pytest.raises(InterpError, match=r"spells none of the neutral words.*list some in the lexicon"):
        substitute(["wait"], ["zebra"]).start(Scene(vocabulary, 1, 0, 1.0))


@pytest.mark.parametrize("size", (290, 400))
def test_an_opening_is_affirmed_and_no_other_follows_soon(size):
    edit = affirm(LEXICON)
    assert "but" not in edit.phrases, "no opening"
    limit = LIMIT + 20
    rollouts, counts = run(size, edit, limit=limit)
    untouched, _ = run(size, NoEdit(), limit=limit)
    opening = replace(LEXICON, markers={k: v for k, v in LEXICON.markers.items() if k != "connectors"})
    assert sum(counts) > 8
    vocabulary = vocabulary_of(size)
    for new, old, n in zip(rollouts, untouched, counts, strict=True):
        assert new.text.count(LEXICON.affirmation) == n or not new.finished
        assert n > 0 or new == old
        pieces = vocabulary.text(new.completion_ids)
        for span in opening.marker_spans(pieces):
            if "’" not in pieces and span.end + len(LEXICON.affirmation) <= len(pieces):
                follows = pieces[span.end :].startswith(LEXICON.affirmation)
                assert follows or LEXICON.affirmation in pieces[: span.start], (pieces, span)
        at = pieces.find(LEXICON.affirmation)
        if at >= 0 and "\ufffd" not in pieces:
            after, length = [], 0
            for token in new.completion_ids:
                if length >= at + len(LEXICON.affirmation):
                    after.append(token)
                length += len(vocabulary.pieces[token])
            assert not opening.marker_spans("." + vocabulary.text(after[:SILENCE])), pieces


def test_affirm_needs_an_opening_and_a_text_that_is_spelled(tokenizer):
    with pytest.raises(InterpError, match=r"no affirmation.*affirm needs both"):
        affirm(replace(LEXICON, affirmation=""))
    with pytest.raises(InterpError, match="no class realization or verification"):
        affirm(replace(LEXICON, markers={"connectors": ("but",)}))
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    with pytest.raises(InterpError, match="does not spell"):
        affirm(LEXICON).start(Scene(vocabulary, 1, 0, 1.0))


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_insertions_are_as_frequent_as_asked_and_even(rate):
    rows = 150
    texts = [" wait,", " the button", " zq"]
    rollouts, counts = run(330, insert(texts, rate), rows=rows, limit=40)
    vocabulary = vocabulary_of(330)
    lengths = [len(vocabulary.encode(t)) for t in texts]
    forced = sum(lengths) / 3 * sum(counts)
    free = sum(len(r.completion_ids) + r.finished for r in rollouts) - forced + sum(counts)
    assert abs(sum(counts) / free - rate) < 4 * (rate / free) ** 0.5 + 0.005
    seen = sum(" zq" in r.text for r in rollouts), sum(c > 0 for c in counts)
    assert 0.2 * seen[1] < seen[0] < seen[1]
    assert run(330, insert(texts, rate), rows=rows, limit=40)[1] == counts
    assert run(330, insert(texts, 0.0), rows=20) == (run(330, NoEdit(), rows=20)[0], [0] * 20)


def test_an_inserted_text_must_be_spelled(tokenizer):
    scene = Scene(read_vocabulary(tokenizer, len(tokenizer)), 1, 0, 1.0)
    for texts in ([" wait ,", " zebra"], []):
        with pytest.raises(InterpError, match=r"does not spell .*choose another"):
            insert(texts, 0.1).start(scene)
    insert([" wait ,"], 0.1).start(scene)


STEP = ("1", " +", " 2", " =", " 3")


@pytest.mark.parametrize(
    ("pieces", "joints", "wanted"),
    [
        ((*STEP, " ;", " 4", " -"), (";",), "1 + 2 = 3 ; zq"),
        ((*STEP, " ;", " 4", " -"), (",",), "1 + 2 = 3 ; 4 -"),
        ((*STEP, " ;", " ,", " -"), (";",), "1 + 2 = 3 ; , -"),
        (("7", " ;", " 4", " -"), (";",), "7 ; 4 -"),
        (("it", " is", " so.", " Then", " now"), ("",), "it is so. zq"),
        (("it", " is", " so", " Then", " now"), ("",), "it is so Then now"),
        (("it", " is", " so.", " #"), ("",), "it is so. #"),
    ],
    ids=["joint", "other joint", "before a sign", "no step", "sentence", "no end", "before no word"],
)
def test_with_joints_texts_are_inserted_where_a_step_begins(pieces, joints, wanted):
    text, fired_, _ = scripted(insert([" zq"], 1.0, joints), *pieces, limit=9)
    assert text.startswith(wanted)
    assert ("zq" in wanted) == (fired_ > 0)
