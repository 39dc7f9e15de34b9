import copy

import pytest
import torch

from interp.models.attribution import Rationale, by_gradient, by_surprise
from interp.traces.tokens import encode

RATIONALES = [
    Rationale("Q 7 + 5 - 3 A", ("7", "+", "5", "=", "2", ";", "2", "-", "3", "=", "9"), " #### 9"),
    Rationale("Q 1 + 1 A", ("1", "+", "1", "=", "2"), " #### 2"),
]


def log_p(model, tokenizer, rationale):
    """(log p of every token, its id) of the whole text, one text at a time and in float64."""
    ids = encode(tokenizer, f"{rationale.prompt} {' '.join(rationale.words)}{rationale.answer}")
    logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    return logits[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None]).squeeze(1), ids


def test_surprise_is_minus_log_p_of_each_word(model, tokenizer):
    found = by_surprise(model, tokenizer, RATIONALES)
    for rationale, scores in zip(RATIONALES, found, strict=True):
        expected, _ = log_p(model, tokenizer, rationale)
        start = len(encode(tokenizer, rationale.prompt)) - 1
        truth = -expected[start : start + len(rationale.words)]
        torch.testing.assert_close(torch.tensor(scores).double(), truth, atol=1e-5, rtol=1e-4)


def test_the_gradient_is_the_answers_to_first_order(model, tokenizer):
    """Shrinking a word's embedding by a little changes the answer's log-probability by the score times that."""
    (scores,), rationale, step = (
        by_gradient(model, tokenizer, RATIONALES[:1]),
        RATIONALES[0],
        1e-2,
    )  # norms are taken in fp32
    model = copy.deepcopy(model).double()
    ids = torch.tensor([encode(tokenizer, f"{rationale.prompt} {' '.join(rationale.words)}{rationale.answer}")])
    embedded = model.get_input_embeddings()(ids).detach()
    first, n_answer = len(encode(tokenizer, rationale.prompt)), len(encode(tokenizer, rationale.answer))

    def answer(x):
        logits = model(inputs_embeds=x).logits[:, :-1].log_softmax(-1)
        return float(logits.gather(2, ids[:, 1:, None])[0, -n_answer:].sum())

    for word in range(len(rationale.words)):
        up, down = embedded.clone(), embedded.clone()
        up[0, first + word] *= 1 + step
        down[0, first + word] *= 1 - step
        slope = (answer(up) - answer(down)) / (2 * step)
        assert abs(slope) == pytest.approx(scores[word], rel=2e-2, abs=1e-4)


def test_batches_do_not_matter(model, tokenizer):
    for score in (by_gradient, by_surprise):
        alone = [score(model, tokenizer, [r])[0] for r in RATIONALES]
        for one, together in zip(alone, score(model, tokenizer, RATIONALES), strict=True):
            assert one == pytest.approx(together, rel=1e-3, abs=1e-6)
