"""The command `interp`: `interp study CONFIG` or `interp STAGE CONFIG`.

Heavy libraries are imported where they are used, so that help and refusals are printed at once.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from interp.config import StudyConfig, check_config, read_yaml
from interp.errors import InterpError, InterpWarning, nearest
from interp.pipeline import BY_NAME, STAGES, check_inputs, run_stage, run_study
from interp.study import Study

USAGE = """usage: interp COMMAND CONFIG [--out DIR] [--force] [--debug] [--KEY VALUE ...]

Does a distilled model's performance run on its style? A study of base, distilled and zero-RL checkpoints.

commands:
  study         run every stage in order, skipping those that are done
{stages}
  steer         steer the models of a study along a direction: `interp steer ACTION CONFIG`

CONFIG is a YAML file, for example experiments/configs/organism.yaml. Any of its keys can be set on the command line,
for example --crosscoder.shape.k 16 or --causal.doses '[-1, 1]'. `interp COMMAND --help` explains every option.
"""


STEER_USAGE = """usage: interp steer ACTION CONFIG [--out DIR] [--debug] [--KEY VALUE ...]

Steering along one direction, in a study whose stages up to `activations` are done. Everything goes to OUT/steering.

actions, in this order:
{actions}

The section `steering` of CONFIG says how; for example --steering.at forks or --steering.doses '[-0.1, 0, 0.1]'.
`interp steer ACTION --help` explains every option.
"""
SPINS = "1000"
"""Times that a waiting OpenMP thread of libgomp looks again before it sleeps: within a seventh of the best policy on a
quiet machine and beside another process alike (`experiments/benchmark_threads.py`)."""
QUIET = {
    "PYTHONWARNINGS": "ignore",  # for worker processes
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 on success, 2 where the user can fix what went wrong, 130 when interrupted, 141 where nobody
    reads the output any more (`interp --help | head`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        done = _dispatch([word for word in words if word != "--debug"])
        sys.stdout.flush()
        return done
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's own flush fails too
        return 141
    except InterpError as error:
        if debug:
            traceback.print_exc()
        print(f"interp: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interp: interrupted; the same command resumes from here", file=sys.stderr)
        return 130


def run_script(main: Callable[[Any], None], options: type, doc: str | None) -> int:
    """An experiment's command line: its options, then `main` on them; what the user can fix is one line."""
    import tyro

    chosen = tyro.cli(options, description=doc)
    try:
        main(chosen)
    except InterpError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).stem}: interrupted; the same command resumes from here", file=sys.stderr)
        return 130
    return 0


def _dispatch(words: list[str]) -> int:
    commands = ["study", *BY_NAME, "steer"]
    if not words or words[0] in ("-h", "--help"):
        print(USAGE.format(stages="\n".join(f"  {s.name:<13} {s.summary}" for s in STAGES)))
        return 0
    command, rest = words[0], words[1:]
    if command not in commands:
        raise InterpError(f"no command {command!r}; {nearest(command, commands)}")
    if command == "steer":
        return _steer(rest)
    if "-h" in rest or "--help" in rest:
        print(explain(command))
        return 0
    study, force = parse(rest)
    prepare(study.config)
    if command == "study":
        run_study(study, force=force)
        from interp.summary import print_summary

        print_summary(study)
    else:
        run_stage(study, command, force=force)
    return 0


def _steer(words: list[str]) -> int:
    """`interp steer ACTION CONFIG`."""
    from interp.steering import ACTIONS, run

    if not words or words[0] in ("-h", "--help"):
        listed = "\n".join(f"  {name:<8} {summary}" for name, summary in ACTIONS.items())
        print(STEER_USAGE.format(actions=listed))
        return 0
    action, rest = words[0], words[1:]
    if action not in ACTIONS:
        raise InterpError(f"steer: no action {action!r}; {nearest(action, ACTIONS)}")
    if "-h" in rest or "--help" in rest:
        print(explain(f"steer {action}", ACTIONS[action]))
        return 0
    study, force = parse(rest)
    if force:
        raise InterpError("steer: --force does nothing here: what depends on other options is run again by itself")
    prepare(study.config)
    run(study, action)
    return 0


def parse(words: list[str]) -> tuple[Study, bool]:
    """The study that the words after the command ask for, and whether to replace what was run with another config.

    The command line's values and the file's pass the same check, so that both are refused in the same words.

    Raises:
        InterpError: a word that is no option, an option without a value, or a config that is wrong.
    """
    given = _values(words)
    path, out, force = given.pop("config"), given.pop("out", None), str(given.pop("force", False)) in ("True", "true")
    raw = read_yaml(Path(path))
    check_config(raw, path)
    config = check_config(_merged(raw, given), "command line") if given else check_config(raw, path)
    return Study(config, Path("results") / config.name if out is None else Path(out)), force


def open_study(config: str | Path, *options: str, until: str = "report") -> Study:
    """A study with its stages up to `until` done: those that are missing are run. From a script or a notebook.

    Args:
        config: YAML file of the study.
        options: words of the command line, such as "--seed", "3" or "--out", "elsewhere".
        until: the last stage that is wanted.

    Raises:
        InterpError: a config, option or stage that is wrong, or a stage that was done with another config.
    """
    if until not in BY_NAME:
        raise InterpError(f"no stage {until!r}; {nearest(until, list(BY_NAME))}")
    study, force = parse([str(config), *options])
    prepare(study.config)
    check_inputs(study.config)
    for stage in STAGES[: list(BY_NAME).index(until) + 1]:
        run_stage(study, stage.name, force=force)
    return study


def _values(words: list[str]) -> dict[str, Any]:
    """Key to value of every option, nested as in the file; values are texts, or what JSON makes of a list."""
    from pydantic_settings import CliSettingsSource, SettingsError

    try:
        return dict(CliSettingsSource(_options(), cli_parse_args=list(map(_spelled, words)), cli_exit_on_error=False)())
    except SettingsError as error:
        raise InterpError(_complaint(str(error))) from error


def _spelled(word: str) -> str:
    """An option's key with underscores, as fields are called."""
    key, equals, value = word.partition("=")
    return key[:2] + key[2:].replace("-", "_") + equals + value if word.startswith("--") else word


def _options() -> Any:
    """The command's options: a study's config, and what is not part of it."""
    from pydantic_settings import BaseSettings, CliPositionalArg, CliToggleFlag, SettingsConfigDict

    class Options(StudyConfig, BaseSettings):
        model_config = SettingsConfigDict(
            cli_parse_none_str="null", cli_hide_none_type=True, cli_enforce_required=True, cli_avoid_json=True
        )
        config: CliPositionalArg[str]
        """YAML file of the study."""
        out: str | None = None
        """Folder of the output; results/NAME unless given."""
        force: CliToggleFlag[bool] = False
        """Replace the output of a stage that was run with another config."""

    return Options


def _complaint(reason: str) -> str:
    """The library's complaint in one line of ours."""
    reason = " ".join(reason.removeprefix("error parsing CLI: ").split())
    if unknown := re.match(r"unrecognized arguments: (?:--)?(\S+)", reason):
        key = unknown[1].partition("=")[0]
        if "--" + key in reason:
            return f"--{key}: no such key {key!r}; {nearest(key, _keys(StudyConfig))}"
        return f"one CONFIG is needed, and {key!r} is one too many; options begin with --"
    if lacking := re.match(r"argument --(\S+): expected one argument", reason):
        return f"--{lacking[1]}: no value; give one after it"
    if "required: CONFIG" in reason:
        return "one CONFIG is needed; for example experiments/configs/organism.yaml"
    return f"command line: {reason}"


def _keys(model: Any, prefix: str = "") -> Iterator[str]:
    """Every key that holds a value, with dots."""
    for name, field in model.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with the values of `new`, section by section."""
    both = {k: _merged(old[k], v) for k, v in new.items() if isinstance(v, dict) and isinstance(old.get(k), dict)}
    return {**old, **new, **both}


def explain(command: str, what: str | None = None) -> str:
    """Help of a command: what it does, and every option with the sentence under its field in the config."""
    from pydantic_settings import CliSettingsSource

    whole = "run every stage in order, skipping those that are done"
    what = what or (whole if command == "study" else BY_NAME[command].summary)
    parser = argparse.ArgumentParser(
        prog=f"interp {command}",
        usage=f"interp {command} CONFIG [--out DIR] [--force] [--debug] [--KEY VALUE ...]",
        description=f"{what[0].upper()}{what[1:]}.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=120),
    )
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    CliSettingsSource(_options(), root_parser=parser, cli_parse_args=False)
    return parser.format_help()


def prepare(config: StudyConfig) -> None:
    """Keep the libraries quiet, off the network where every checkpoint and problem is local, and deterministic.

    Warnings of this project (`InterpWarning`) are shown, one line each; the libraries' own are for their authors.
    """
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", InterpWarning)
    warnings.showwarning = _show_warning
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is imported, which is later
    if config.task.is_local and all(Path(p).expanduser().exists() for p in config.checkpoints.given.values()):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _show_warning(message: Warning | str, *_: Any) -> None:
    print(f"interp: warning: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
