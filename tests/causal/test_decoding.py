"""Edited generation against the plain sampler, and against reading the whole sequence again without a cache."""

from dataclasses import dataclass

import pytest
import torch
from small import code64, small_crosscoder

from causal.whole import HEADS, KINDS, TOKENIZER, VOCABULARY, WIDTH, activation, generated, last_logits, last_ones, trio
from interp.causal import companions
from interp.causal.companions import Companion, distinct
from interp.causal.decoding import generate_edited
from interp.causal.edits import (
    Add,
    Edit,
    NoEdit,
    Scene,
    SetComponent,
    ablate,
    add_decoder_difference,
    amplify,
    ban,
    error_only,
    fired,
    patch_from,
    reconstruction_only,
    record,
    transplant,
    zero,
)
from interp.causal.edits.base import Running
from interp.causal.places import COMPLETION, EVERYWHERE, PROMPT, after_first
from interp.errors import InterpError
from interp.generation.sampling import CachedModel, generate
from interp.models.hooks import SITES, Site
from interp.names import COMPARED
from interp.traces.tokens import encode

PROMPTS = ["Q 7 + 5 - 3 A", "Q 1 A", "Q 3 - 3 + 4 * 9 A"]
LAYER, LATENTS = 1, (1, 2, 3, 5, 7, 8, 11, 17)
VECTOR = 2 * torch.sin(torch.arange(WIDTH).float())
UNIT = VECTOR.double() / VECTOR.double().norm()


def crosscoder():
    """Low enough a threshold that latents are on at every site."""
    return small_crosscoder(threshold=0.3)


def parts64(cc, x, slot, chosen=slice(None)):
    """(codes of the chosen latents, their decoders in input units), in float64."""
    return code64(cc, x)[:, chosen], cc.W_dec.double()[chosen, slot] / cc.scale[slot].double()


def stacked(h, others):
    return torch.stack([h if name == "distilled" else others[name] for name in COMPARED], dim=1).double()


def latents(f_new):
    """h + Σ (f' - f) d, by hand."""

    def by_hand(h, others):
        f, d = parts64(crosscoder(), stacked(h, others), 1, list(LATENTS))
        return h.double() + (f_new(f) - f) @ d

    return by_hand


def swapped(h, others):
    cc, chosen = crosscoder(), list(LATENTS)
    own, source = (code64(cc, x[:, None].expand(-1, 3, -1))[:, chosen] for x in (h, others["base"]))
    return h.double() + (source - own) @ (cc.W_dec.double()[chosen, 1] / cc.scale[1].double())


def rewritten(h, others):
    cc, chosen = crosscoder(), list(LATENTS)
    f, own = parts64(cc, stacked(h, others), 1, chosen)
    return h.double() + f @ (cc.W_dec.double()[chosen, 2] / cc.scale[2].double() - own)


def reconstructed(h, others):
    cc = crosscoder()
    f, d = parts64(cc, stacked(h, others), 1)
    return f @ d + cc.b_dec[1].double() / cc.scale[1].double() + cc.mean[1].double()


MEANS = torch.linspace(0.2, 1.5, len(LATENTS)).double()


def of_head(kind, source):
    def by_hand(h, others):
        new = h.double().clone()
        width = WIDTH // HEADS[kind]
        new[:, width : 2 * width] = others[source][:, width : 2 * width].double() if source else 0.0
        return new

    return by_hand


def edits_at(kind, name):
    """Name to (edit, its formula by hand)."""
    cc, site = crosscoder(), Site(LAYER, name)
    found = {
        "add": (Add(site, VECTOR, scale=1.5), lambda h, o: h.double() + 1.5 * VECTOR.double()),
        "set": (
            SetComponent(site, VECTOR, value=2.0),
            lambda h, o: h.double() + (2.0 - h.double() @ UNIT)[:, None] * UNIT,
        ),
        "patch": (patch_from("base", LAYER, site=name), lambda h, o: o["base"].double()),
        "zero": (zero(LAYER, site=name), lambda h, o: torch.zeros_like(h).double()),
        "ablate": (ablate(cc, LATENTS, LAYER, site=name), latents(lambda f: 0 * f)),
        "mean": (ablate(cc, LATENTS, LAYER, site=name, to=MEANS.tolist()), latents(lambda f: MEANS.expand_as(f))),
        "amplify": (amplify(cc, LATENTS, 2.0, LAYER, site=name), latents(lambda f: 2 * f)),
        "transplant": (transplant(cc, LATENTS, LAYER, site=name, source="base"), swapped),
        "decoders": (
            add_decoder_difference(cc, LATENTS, LAYER, site=name, toward="zero_rl", model="distilled"),
            rewritten,
        ),
        "reconstruction": (reconstruction_only(cc, LAYER, site=name), reconstructed),
        "error": (
            error_only(cc, LAYER, site=name),
            lambda h, o: cc.mean[1].double() + h.double() - reconstructed(h, o),
        ),
    }
    if name == "z":
        heads = {"heads": (1,), "n_heads": HEADS[kind]}
        found["head"] = (patch_from("base", LAYER, site="z", **heads), of_head(kind, "base"))
        found["no head"] = (zero(LAYER, site="z", **heads), of_head(kind, None))
    return found


PLACES = {
    "everywhere": (EVERYWHERE, lambda at, n: torch.ones_like(at).bool()),
    "completion": (COMPLETION, lambda at, n: at >= n),
    "prompt": (PROMPT, lambda at, n: at < n),
    "after 2": (after_first(2), lambda at, n: at >= 2),
    "not": (~after_first(3) & PROMPT, lambda at, n: (at < 3) & (at < n)),
}


def by_hand(models, prompt, completion, name, formula, mask, own=None):
    """Logits after the last token, everything read anew. `own`: other models' prompts, in whose place the formula is
    used in the completion only."""
    text = prompt + completion
    others = {}
    for model in COMPARED:
        theirs = activation(models[model], LAYER, name, tuple((own or {}).get(model, prompt) + completion))
        others[model] = torch.cat([torch.zeros(len(prompt), theirs.shape[1]), theirs[len(theirs) - len(completion) :]])
        if own is None:
            others[model] = theirs
    where = mask(torch.arange(len(text)), len(prompt))

    def edited(h):
        return torch.where(where[:, None], formula(h, others).to(h.dtype), h)

    return last_logits(models["distilled"], text, LAYER, name, edited)


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_edit_at_every_site_is_the_formula_on_the_whole_text(kind, name):
    """All edits in one batch, with prompts of three lengths, each at its own places. An edit one position off, one
    that stops after the prompt, that touches padding or another job's rows would show."""
    models, edits = trio(kind), edits_at(kind, name)
    if kind != "llama":
        edits = {what: edits[what] for what in ("set", "patch", "mean", "transplant", "head") if what in edits}
    places = [list(PLACES)[i % len(PLACES)] for i in range(len(edits))]
    jobs = [edit.at(PLACES[place][0]) for (edit, _), place in zip(edits.values(), places, strict=True)]
    _, running, seen = generated(models, [*jobs, NoEdit()], PROMPTS, steps=3)
    plain = {(row, tuple(text)): logits for job, row, text, logits in seen if job == len(jobs)}
    moved = [False] * len(jobs)
    for job, row, completion, logits in last_ones(seen):
        if job == len(jobs):
            continue
        what, formula = list(edits)[job], list(edits.values())[job][1]
        wanted = by_hand(models, encode(TOKENIZER, PROMPTS[row]), completion, name, formula, PLACES[places[job]][1])
        torch.testing.assert_close(
            logits, wanted, atol=3e-3, rtol=2e-3, msg=lambda m, at=(what, places[job], row, completion): f"{at}: {m}"
        )
        free = plain.get((row, tuple(completion)))
        moved[job] |= free is None or not torch.allclose(free, logits, atol=5e-3)
    # Zeros where nothing is, or latents that are off, change nothing; most must.
    assert sum(moved) >= 0.75 * len(jobs), [what for what, m in zip(edits, moved, strict=True) if not m]
    for one, did in zip(running, moved, strict=False):
        assert not did or sum(fired(one)) > 0


def test_one_position_off_would_show():
    """The tolerance above is far below what a shifted edit does."""
    models, prompt = trio("llama"), encode(TOKENIZER, PROMPTS[0])
    _, formula = edits_at("llama", "resid_post")["add"]
    right, off, less = (
        by_hand(models, prompt, [5, 6], "resid_post", formula, lambda at, n, first=first: at >= first)
        for first in (3, 4, 2)
    )
    assert (right - off).abs().max() > 0.02 and (right - less).abs().max() > 0.02


OWN = {"base": [encode(TOKENIZER, "Q 4 A"), encode(TOKENIZER, "now then Q 9 - 9 * 3 A"), [7]]}
"""Prompts of another model's template: shorter and longer ones."""


@dataclass(frozen=True)
class Fickle(Edit):
    """Takes back and chooses again, at the start and later on."""

    @property
    def name(self):
        return "fickle"

    def start(self, scene):
        running = Running(scene.rows)

        def after(part):
            for i in part.free:
                if part.rows[i] != 2 and part.step in (0, 1):
                    part.choose_again(i)
                if part.rows[i] == 0 and part.step == 4:
                    part.take_back(i, len(part.written[i]))
                    part.choose_again(i)
                if part.rows[i] == 1 and part.step == 4:
                    part.take_back(i, 1)

        running.after = after
        return running


@pytest.mark.parametrize("shots", ["", "Q 1 + 2 - 3 A 1 + 2 = 3 , 3 - 3 = 0 " * 3])
@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
def test_models_with_prompts_of_their_own_read_their_own(kind, shots):
    """The edits act in the completion alone, also where the edited model's last token of the prompt is read again."""
    models, prompts = trio(kind), [shots + p for p in PROMPTS]
    edits = edits_at(kind, "resid_post")
    chosen = ("patch", "transplant", "ablate")
    jobs = [Fickle() | edits[what][0] for what in chosen] + [edits[what][0] for what in chosen]
    _, running, seen = generated(models, [*jobs, Fickle()], prompts, steps=4, temperature=1.0, own=OWN)
    assert all(sum(fired(one)) > 0 for one in running[:-1])
    starts = [one for one in seen if not one[2]]
    for job, row, completion, logits in [*starts[-2 * len(jobs) :], *last_ones(seen)]:
        if job == len(jobs):
            continue
        formula = edits[chosen[job % 3]][1]
        own = {"base": OWN["base"][row]}
        prompt = encode(TOKENIZER, prompts[row])
        wanted = by_hand(models, prompt, completion, "resid_post", formula, lambda at, n: at >= n, own)
        torch.testing.assert_close(
            logits, wanted, atol=3e-3, rtol=2e-3, msg=lambda m, at=(job, row, completion): f"{at}: {m}"
        )
    assert len(starts) > len(prompts) * (len(jobs) + 1), "the start of a completion was read again"


IDENTITIES = {
    "amplify by 1": lambda cc: amplify(cc, LATENTS, 1.0, LAYER),
    "ablate nothing": lambda cc: ablate(cc, (), LAYER),
    "add 0": lambda cc: Add(Site(LAYER), VECTOR, scale=0.0),
    "transplant from itself": lambda cc: transplant(cc, LATENTS, LAYER, source="distilled"),
    "patch from itself": lambda cc: patch_from("distilled", LAYER),
    "patch heads from itself": lambda cc: patch_from("distilled", LAYER, site="z", heads=(0,), n_heads=2),
    "decoders of its own": lambda cc: add_decoder_difference(cc, LATENTS, LAYER, toward="base", model="base"),
    "patch resid_mid from itself": lambda cc: patch_from("distilled", LAYER, site="resid_mid"),
}


@pytest.mark.parametrize("what", IDENTITIES)
def test_an_identity_changes_no_bit(what):
    edit = IDENTITIES[what](crosscoder())
    edited = "base" if what == "decoders of its own" else "distilled"
    with_edit, running, seen = generated(trio("qwen2"), [edit], PROMPTS, steps=8, temperature=1.0, edited=edited)
    plain, _, wanted = generated(trio("qwen2"), [NoEdit()], PROMPTS, steps=8, temperature=1.0, edited=edited)
    assert with_edit == plain and len(seen) == len(wanted)
    for (*at, logits), (*expected_at, expected) in zip(seen, wanted, strict=True):
        assert at == expected_at and torch.equal(logits, expected)
    assert fired(running[0]) == [0] * len(PROMPTS)


def test_rows_that_finish_early_and_jobs_beside_do_not_disturb_the_others():
    """Sampled texts end at different times, so that rows leave the batch; each edit and prompt alone says the same."""
    edits = [edits_at("llama", "resid_post")[what][0] for what in ("ablate", "patch")] + [NoEdit()]
    prompts = [*PROMPTS, "Q 8 A wait ,", "A"]
    together, running, _ = generated(trio("llama"), edits, prompts, steps=16, temperature=1.0)
    assert any(r.finished for rollouts in together for r in rollouts)
    for j, edit in enumerate(edits):
        alone, once, _ = generated(trio("llama"), [edit], prompts, steps=16, temperature=1.0)
        assert alone[0] == together[j] and fired(once[0]) == fired(running[j])


def test_a_shared_beginning_is_edited_as_each_job_asks(monkeypatch):
    """It is read once a job instead of once a prompt, and counts in no row."""
    prompts = ["Q 1 + 2 - 3 A 1 + 2 = 3 , 3 - 3 = 0 " * 3 + p for p in PROMPTS]
    edits = [edits_at("qwen2", "resid_post")[what][0] for what in ("ablate", "add", "transplant")]
    shared, counted, _ = generated(trio("qwen2"), [*edits, NoEdit()], prompts, steps=12)
    monkeypatch.setattr("interp.traces.tokens.SHARED", 10**9)
    alone, all_counted, _ = generated(trio("qwen2"), [*edits, NoEdit()], prompts, steps=12)
    assert shared == alone and len({str(rollouts) for rollouts in shared}) == 4
    length = len(encode(TOKENIZER, "Q 1 + 2 - 3 A 1 + 2 = 3 , 3 - 3 = 0 " * 3 + "Q"))
    assert [b - a for a, b in zip(fired(counted[1]), fired(all_counted[1]), strict=True)] == [length] * 3


def test_edits_are_applied_in_their_order_and_see_each_other():
    """Adding, then projecting out, leaves nothing along the direction; the other way round leaves what was added."""
    add, project = Add(Site(LAYER), VECTOR, scale=3.0), SetComponent(Site(LAYER), VECTOR)
    _, _, seen = generated(trio("llama"), [add | project, project | add, project], PROMPTS, steps=1)
    first, second, third = (torch.stack([x for job, *_, x in seen if job == j]) for j in range(3))
    torch.testing.assert_close(first, third, atol=1e-3, rtol=1e-3)
    assert (first - second).abs().max() > 0.05
    itself = patch_from("distilled", LAYER)
    _, _, seen = generated(trio("llama"), [add | itself, add], PROMPTS, steps=1)
    half = len(PROMPTS)
    assert all(torch.equal(a[-1], b[-1]) for a, b in zip(seen[:half], seen[half:], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_resid_pre_is_in_the_resid_mid_that_is_patched(kind):
    """Both in one block: `resid_mid` becomes the patch, whatever is done before it."""
    added = Add(Site(LAYER, "resid_pre"), VECTOR, scale=3.0)
    patch = patch_from("base", LAYER, site="resid_mid")
    _, _, seen = generated(trio(kind), [added | patch, patch | added, patch, added], PROMPTS, steps=1)
    both, also, alone, other = (torch.stack([x for job, *_, x in seen if job == j]) for j in range(4))
    torch.testing.assert_close(both, alone, atol=3e-3, rtol=2e-3)
    torch.testing.assert_close(also, alone, atol=3e-3, rtol=2e-3)
    assert (other - alone).abs().max() > 0.05


def hooks():
    return [
        dict(found)
        for kind in KINDS
        for model in trio(kind).values()
        for module in model.modules()
        for found in (module._forward_hooks, module._forward_pre_hooks)
    ]


class BrokenError(Exception):
    """What a broken edit raises."""


@dataclass(frozen=True, eq=False)
class Broken(Add):
    def change(self, h, others):
        raise BrokenError


@pytest.mark.parametrize("name", SITES)
def test_the_hooks_are_gone_afterwards_also_after_an_error(name):
    before = hooks()
    generated(trio("llama"), [edits_at("llama", name)["ablate"][0]], PROMPTS, steps=2)
    assert hooks() == before
    with pytest.raises(BrokenError):
        generated(trio("llama"), [Broken(Site(LAYER, name), VECTOR)], PROMPTS, steps=2)
    assert hooks() == before


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generate_edited_is_the_untouched_run_without_an_edit_and_any_batch_size_says_the_same(temperature):
    model = trio("qwen2")["distilled"]
    settings = {"max_new_tokens": 12, "temperature": temperature, "seed": 4}
    plain = generate(CachedModel(model), TOKENIZER, PROMPTS, **settings)
    assert generate_edited(model, TOKENIZER, PROMPTS, NoEdit(), **settings) == plain
    edit = ban(["wait", "hmm", "9"]) | Add(Site(LAYER), VECTOR)
    one, two = (generate_edited(model, TOKENIZER, PROMPTS, edit, batch_size=n, **settings) for n in (1, 512))
    assert one == two != plain
    assert "9" not in " ".join(r.text for r in one).split()
    seven = TOKENIZER.convert_tokens_to_ids("7")
    ended = generate_edited(model, TOKENIZER, PROMPTS, NoEdit(), end_ids=[seven], **settings)
    assert all(seven not in r.completion_ids for r in ended)
    assert VOCABULARY.pieces[seven] == " 7"


OTHER = ["Q 3 + 3 + 3 A 6", "Q 9 A 9 9", "Q 2 * 2"]
"""What the recorded run reads: other prompts, of other lengths than those of the edited run, which all begin alike."""


@pytest.mark.parametrize(("name", "places"), [("resid_post", "everywhere"), ("mlp_out", "prompt"), ("z", "completion")])
def test_another_run_is_put_in_position_by_position_of_the_same_problem(name, places):
    """Under left padding, with a cache, and though all prompts have a common beginning; after the recording's end
    nothing is changed."""
    models, heads = trio("llama"), {"heads": (0, 2), "n_heads": 4} if name == "z" else {}
    texts = {row: encode(TOKENIZER, text) for row, text in enumerate(OTHER)}
    recording = record(models["base"], texts, LAYER, site=name)
    patched = patch_from(recording, **heads).at(PLACES[places][0])
    _, (running, _), seen = generated(models, [patched, NoEdit()], PROMPTS, steps=4)
    plain = {(row, tuple(text)): logits for job, row, text, logits in seen if job == 1}
    moved = 0
    for job, row, completion, logits in last_ones(seen):
        if job:
            continue
        prompt, kept = encode(TOKENIZER, PROMPTS[row]), activation(models["base"], LAYER, name, tuple(texts[row]))
        where = PLACES[places][1](torch.arange(len(prompt + completion)), len(prompt))
        where &= torch.arange(len(where)) < len(kept)

        def put(h, where=where, kept=kept):
            new = h.clone()
            for at in where.nonzero().flatten().tolist():
                new[at] = (
                    kept[at] if name != "z" else torch.cat([kept[at][0:4], h[at][4:8], kept[at][8:12], h[at][12:]])
                )
            return new

        wanted = last_logits(models["distilled"], prompt + completion, LAYER, name, put)
        torch.testing.assert_close(logits, wanted, atol=3e-3, rtol=2e-3)
        assert fired(running)[row] == int(where.sum())
        free = plain.get((row, tuple(completion)))
        moved += free is None or not torch.allclose(free, logits, atol=5e-3)
    assert moved >= 2


def test_a_run_put_into_itself_stays():
    models = trio("qwen2")
    (plain,), _, _ = generated(models, [NoEdit()], PROMPTS, steps=6)
    texts = {
        row: encode(TOKENIZER, p) + one.completion_ids for row, (p, one) in enumerate(zip(PROMPTS, plain, strict=True))
    }
    for name in SITES:
        patched = patch_from(record(models["distilled"], texts, LAYER, site=name))
        (again,), _, _ = generated(models, [patched], PROMPTS, steps=6)
        assert [one.completion_ids for one in again] == [one.completion_ids for one in plain]


def test_recordings_are_told_apart_and_checked():
    models = trio("qwen2")
    one, two = (record(models["base"], {0: ids}, LAYER) for ids in ([5, 6], [5, 7]))
    assert patch_from(one).describe() == patch_from(one).describe() != patch_from(two).describe()
    assert patch_from(one).describe() != patch_from(one).at(PROMPT).describe()
    scene = Scene(VOCABULARY, 1, 0, 0.0)
    by_row = [
        edit.start(scene).by_row for edit in (patch_from(one), patch_from(one) | ban(["wait"]), patch_from("base", 1))
    ]
    assert by_row == [True, True, False]
    assert patch_from(one).name == "patch blocks.1.hook_resid_post from a run"
    with pytest.raises(InterpError, match=r"recording's width is 16, that of .* is 17"):
        patch_from(one).check(17)
    with pytest.raises(InterpError, match="blocks 0 to 2"):
        record(models["base"], {0: [5]}, 3)
    with pytest.raises(InterpError, match="no layer"):
        patch_from("base")
    with pytest.raises(InterpError, match="no texts"):
        record(models["base"], {}, 1)


def test_problems_that_were_not_recorded_stay():
    models = trio("qwen2")
    texts = {2: encode(TOKENIZER, OTHER[0])}
    (rollouts, plain), (running, _), _ = generated(
        models, [patch_from(record(models["base"], texts, 0)), NoEdit()], PROMPTS
    )
    assert fired(running)[:2] == [0, 0] and fired(running)[2] > 0
    assert rollouts[:2] == plain[:2]


@pytest.mark.parametrize("weak", [True, False])
def test_companions_read_rows_of_the_same_text_once(weak, monkeypatch):
    """Draws of one problem share a row of the companion's cache until they part, and the logits stay those of a run
    alone; with edits that change nothing no row ever parts."""
    models, prompts, rows = trio("qwen2"), PROMPTS * 2, []
    jobs = [
        ablate(crosscoder(), (j,), LAYER) if not weak else amplify(crosscoder(), (j,), 1.0, LAYER) for j in range(6)
    ]
    read = Companion._arranged

    def counted(self, ids, mask):
        first = read(self, ids, mask)
        rows.append((len(ids), len(first)))
        assert self._held == len(first) and int(self._place.max()) == len(first) - 1
        return first

    monkeypatch.setattr(Companion, "_arranged", counted)
    together, _, seen = generated(models, jobs, prompts, steps=8, temperature=1.0)
    assert rows[0] == rows[1] == (36, 3), "two companions; three prompts, each of two problems of six jobs"
    if weak:
        assert max(held for _, held in rows) == 6, "the two problems of a prompt part, the jobs do not"
    else:
        assert max(held for _, held in rows) > 6
    monkeypatch.undo()
    logged = {(job, row): logits for job, row, _, logits in last_ones(seen)}
    for job, edit in enumerate(jobs):
        (alone,), _, again = generated(models, [edit], prompts, steps=8, temperature=1.0)
        assert [r.completion_ids for r in together[job]] == [r.completion_ids for r in alone]
        for _, row, _, logits in last_ones(again):
            torch.testing.assert_close(logged[job, row], logits, atol=3e-3, rtol=2e-3)


def test_rows_are_told_apart_even_where_their_hashes_are_not(monkeypatch):
    rows = torch.tensor([[1, 2], [2, 1], [1, 2], [3, 3], [2, 1]])
    for constant in (companions._HASH, 0):  # with 0 every row has one hash
        monkeypatch.setattr(companions, "_HASH", constant)
        group, first = distinct(rows)
        assert sorted(first.tolist()) == [0, 1, 3]
        assert torch.equal(rows[first][group], rows)
