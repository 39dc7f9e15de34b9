"""A subject of the causal tests: the small models on the organisms' own task."""

from interp.causal.subject import Subject
from interp.tasks.chains import ChainTask
from interp.traces.lexicon import load_lexicon


def make_subject(models, tokenizer, n, **changes):
    task = ChainTask(3)
    problems = task.problems(n, 0, "test")
    settings = {
        "name": "distilled",
        "models": models,
        "tokenizer": tokenizer,
        "task": task,
        "lexicon": load_lexicon("default"),
        "problems": problems,
        "prompts": [p.prompt for p in problems],
        "resamples": 200,
        "layer": 1,
        "skip_first": 2,
        "max_new_tokens": 20,
        "temperature": 1.0,
        "batch_size": 512,
        "seed": 0,
        "on_copies": lambda n: None,
    }
    return Subject(**(settings | changes))
