"""The command `interp`: `interp study CONFIG` or `interp STAGE CONFIG`.

Heavy libraries are imported where they are used, so that help and complaints answer at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from interp.config import StudyConfig, check_config, load_config
from interp.errors import InterpError, nearest
from interp.pipeline import BY_NAME, STAGES, run_stage, run_study
from interp.study import Study

USAGE = """usage: interp COMMAND CONFIG [--out DIR] [--force] [--debug] [--KEY VALUE ...]

Does a distilled model's performance run on its style? A study of base, distilled and zero-RL checkpoints.

commands:
  study         run every stage in order, skipping those that are done
{stages}

CONFIG is a YAML file, for example experiments/configs/organism.yaml. Any of its keys can be set on the command line,
for example --crosscoder.k 16 or --causal.doses '[-1, 1]'. `interp COMMAND --help` explains every option.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 on success, 2 where the user can mend what went wrong, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        return _dispatch([word for word in words if word != "--debug"])
    except InterpError as error:
        if debug:
            traceback.print_exc()
        print(f"interp: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interp: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def run_script(main: Callable[[Any], None], options: type, doc: str | None) -> int:
    """An experiment's command line: its options, then `main` on them; what the user can mend is one line."""
    import tyro

    chosen = tyro.cli(options, description=doc)
    try:
        main(chosen)
    except InterpError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).stem}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _dispatch(words: list[str]) -> int:
    commands = ["study", *BY_NAME]
    if not words or words[0] in ("-h", "--help"):
        print(USAGE.format(stages="\n".join(f"  {s.name:<13} {s.summary}" for s in STAGES)))
        return 0
    command, rest = words[0], words[1:]
    if command not in commands:
        raise InterpError(f"no command {command!r}; {nearest(command, commands)}")
    if "-h" in rest or "--help" in rest:
        return _help(command)
    study, force = parse(rest)
    prepare(study.config)
    if command == "study":
        run_study(study, force=force)
        from interp.summary import print_summary

        print_summary(study)
    else:
        run_stage(study, command, force=force)
    return 0


def parse(words: list[str]) -> tuple[Study, bool]:
    """The study that the words after the command ask for, and whether to replace what differs.

    YAML keys and command-line keys pass the same check, so that both are refused in the same words.
    """

    positional: list[str] = []
    settings: dict[str, str] = {}
    force, rest = False, list(words)
    while rest:
        word = rest.pop(0)
        if word == "--force":
            force = True
        elif not word.startswith("--"):
            positional.append(word)
        else:
            key, equals, value = word[2:].partition("=")
            if not equals:
                if not rest:
                    raise InterpError(f"{word}: no value; give one after it")
                value = rest.pop(0)
            settings[key.replace("-", "_")] = value
    if len(positional) != 1:
        got = f"got {len(positional)}: {' '.join(positional)}" if positional else "got none"
        raise InterpError(f"one CONFIG is needed, {got}; for example experiments/configs/organism.yaml")
    out = settings.pop("out", None)
    config = load_config(Path(positional[0]))
    if settings:
        raw = config.model_dump(mode="json")
        for key, value in settings.items():
            _set(raw, key, _read(key, value))
        config = check_config(raw, "command line")
    return Study(config, Path(out) if out else Path("results") / config.name), force


def _read(key: str, value: str) -> Any:
    """A value as YAML reads it; as it stands where the key wants a text."""
    import yaml

    model: Any = StudyConfig
    for name in key.split("."):
        field = getattr(model, "model_fields", {}).get(name)
        model = None if field is None else field.annotation
    if model is str or (model == (str | None) and value != "null"):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InterpError(f"--{key} {value}: not YAML: {' '.join(str(error).split())}") from error


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    at = raw
    for depth, name in enumerate(parents):
        if not isinstance(at.get(name), dict):
            raise InterpError(f"--{key}: no such key {'.'.join(parents[: depth + 1])!r}; {nearest(name, at)}")
        at = at[name]
    if last not in at:
        raise InterpError(f"--{key}: no such key {last!r}; {nearest(last, at)}")
    at[last] = value


def _help(command: str) -> int:
    """Explain every option; the sentences are those under the config's fields."""
    from dataclasses import make_dataclass

    import tyro

    summary = (
        "run every stage in order, skipping those that are done" if command == "study" else BY_NAME[command].summary
    )
    keys = Annotated[StudyConfig, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]

    def explained(kind: Any, text: str) -> Any:
        return Annotated[kind, tyro.conf.arg(help=text)]

    options = make_dataclass(
        "Options",
        [
            ("config", tyro.conf.Positional[explained(Path, "YAML file of the study.")]),
            ("out", explained(Path | None, "Folder of the output; results/NAME unless given."), None),
            (
                "force",
                tyro.conf.FlagCreatePairsOff[
                    explained(bool, "Replace the output of a stage that was run with another config.")
                ],
                False,
            ),
            ("debug", tyro.conf.FlagCreatePairsOff[explained(bool, "Show the traceback of an error.")], False),
            ("settings", keys, StudyConfig()),
        ],
    )
    with contextlib.suppress(SystemExit):
        tyro.cli(options, prog=f"interp {command}", description=f"{summary[0].upper()}{summary[1:]}.", args=["--help"])
    return 0


def prepare(config: StudyConfig) -> None:
    """Keep the libraries quiet, off the network where every checkpoint and problem is local, and deterministic."""
    import warnings

    # The libraries' own warnings are for their authors; worker processes read the variable.
    warnings.simplefilter("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if others_are_busy():
        # Threads that wait for each other then sleep instead of spinning. Beside one other busy process on two cores
        # spinning made training up to ten times slower; on a quiet machine sleeping would cost a third.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported, which is later
    if config.task.is_local and all(Path(p).expanduser().exists() for p in config.checkpoints.given.values()):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def others_are_busy(seconds: float = 0.2, share: float = 0.2) -> bool:
    """Whether other processes use more than `share` of this machine's processors, watched for a moment; False where
    the system does not say."""

    def ticks() -> tuple[int, int]:
        """(all, idle) processor time so far."""
        fields = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    try:
        (total, idle), _, (total_after, idle_after) = ticks(), time.sleep(seconds), ticks()
    except (OSError, ValueError, IndexError):
        return False
    return total_after > total and 1 - (idle_after - idle) / (total_after - total) > share


if __name__ == "__main__":
    sys.exit(main())
