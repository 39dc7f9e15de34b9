"""A study whose models are small and random and whose rollouts are written by hand, so that nothing is trained."""

import json

import polars as pl

from interp.config import check_config
from interp.models.trio import open_trio
from interp.names import COMPARED
from interp.stages import activations
from interp.stages.problems import task_of, test_problems
from interp.stages.traces import _table, checkpoint_paths, with_events
from interp.study import Study
from interp.tasks.grading import Grade
from interp.traces.lexicon import load_lexicon
from interp.traces.rollouts import Rollout
from interp.traces.tokens import encode

PLAIN = "3 + 4 = 7 ; 7 + 1 = 8 ; 8 + 2 = 0 ; 0 + 1 = 1 #### 1"
CHECKED = "3 + 4 = 7 ; 7 + 1 = 8 ; 8 + 2 = 0 ; 0 + 1 = 1 ; 1 + 1 = 5 , wait , 1 + 1 = 2 #### 2"
"""Without and with a step that is worked again."""
SECTION = {"doses": [-2, 0, 2], "where": ["everywhere"], "problems": 8, "control_problems": 8, "controls": 20}


def make_study(folder, models, tokenizer, texts=(CHECKED, PLAIN), **section):
    """The folders that steering reads. Of 24 problems the first 8 are tested; the texts come in turn."""
    for name, model in models.items():
        model.save_pretrained(folder / "checkpoints" / name)
        tokenizer.save_pretrained(folder / "checkpoints" / name)
    told = {name: {"path": name} for name in models}
    (folder / "checkpoints" / "models.json").write_text(json.dumps(told))
    raw = {
        "threads": 1,
        "device": "cpu",
        "task": {"terms": 3},
        "traces": {"problems": 24, "max_new_tokens": 12},
        "activations": {"layer": 1},
        "causal": {"resamples": 100},
        "steering": SECTION | {"covariance_controls": 3} | section,
    }
    study = Study(check_config(raw, "here"), folder)
    for name in ("traces", "sites", "activations"):
        (folder / name).mkdir()
    (folder / "sites" / "site.json").write_text(json.dumps({"read": {"layer": 1, "name": "resid_post"}}))
    problems, task, lexicon = test_problems(study.config), task_of(study.config), load_lexicon("default")
    tables = []
    for name in COMPARED:
        written = [texts[i % len(texts)] if name == "distilled" else PLAIN for i in range(len(problems))]
        rollouts = [
            Rollout(encode(tokenizer, p.prompt), encode(tokenizer, t), t, True)
            for p, t in zip(problems, written, strict=True)
        ]
        grades = [Grade(False) for _ in problems]
        tables.append(_table(name, problems, rollouts, grades, task, lexicon, True))
    tables = with_events(tables, open_trio(checkpoint_paths(study)))
    pl.concat(tables).write_parquet(folder / "traces" / "traces.parquet")
    activations.run(study, folder / "activations")
    return study


def changed(study, **section):
    """The same study with other values of the section `steering`."""
    raw = study.config.model_dump(mode="json") | {"steering": study.config.steering.model_dump(mode="json") | section}
    return Study(check_config(raw, "here"), study.root)
