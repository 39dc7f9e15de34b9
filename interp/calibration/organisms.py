"""The units of a calibration: one organism each, read by a whole study in a process of its own.

A unit that is done is not done again, one that was interrupted resumes where it was, and one that fails is a row of the
table with its error: it counts among the organisms that were not read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl

from interp.calibration.naive import INSTRUMENTS, answers
from interp.calibration.power import SIZES, verdicts
from interp.causal.arms import BOTH, FUNCTION, STYLE
from interp.config import StudyConfig, check_config
from interp.disk import disk_errors, replacing
from interp.errors import InterpError
from interp.folders import atomic_folder, digest, intact, read_manifest, writing
from interp.names import MODELS
from interp.organisms.kinds import HIDDEN, KINDS, kinds_of
from interp.organisms.recipes import OF_EVERY_KIND
from interp.organisms.worlds import WORLDS
from interp.pipeline import stage_key
from interp.study import Study

LOSSES = {"style": STYLE, "function": FUNCTION, "both": BOTH}
"""Name of a column to the removal whose loss it holds."""
LOG, CONFIG = "calibration.log", "config.yaml"
"""In a unit's folder: what its study printed, and its config."""


@dataclass(frozen=True)
class Unit:
    """One organism."""

    world: str
    kind: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.world}-{self.kind}-{self.seed}"


def varied(config: StudyConfig) -> dict[str, Any]:
    """A study's config without what differs between the units of a world, and without what changes no number."""
    raw = config.model_dump(mode="json")
    del raw["seed"], raw["organism"]["kind"], raw["causal"]["workers"]
    return raw


def study_of(config: StudyConfig, unit: Unit, out: Path) -> Study:
    """The study of one organism, from the config of its world. Where that names a distilled checkpoint, `{kind}` and
    `{seed}` stand in its path.

    Raises:
        InterpError: there is no such kind.
    """
    raw = config.model_dump(mode="json")
    raw["organism"]["kind"], raw["seed"] = unit.kind, unit.seed
    if raw["checkpoints"]["distilled"] is not None:
        raw["checkpoints"]["distilled"] = raw["checkpoints"]["distilled"].format(kind=unit.kind, seed=unit.seed)
    return Study(check_config(raw, unit.name), out / unit.name)


def run_units(studies: Mapping[Unit, Study], workers: int, say: Callable[[str], None] = print) -> set[Unit]:
    """Run the studies, at most `workers` at a time, each with its config's threads; returns those that failed. An
    interrupt ends them; they resume."""
    processes, failed = _Processes(), set[Unit]()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without one
    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(_run, unit, studies, processes): unit for unit in studies}
        later = set(running)
        try:
            while later:
                # With a timeout, since polars' handler of Ctrl-C does not wake a wait without one.
                done, later = wait(later, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    unit, code = running[future], future.result()
                    if code:
                        failed.add(unit)
                    say(f"{unit.name}: {f'failed, see {LOG} in its folder' if code else 'done'}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.end()
            raise
    return failed


class _Processes:
    """The studies under way, which end together. Killed, a study loses the unit that it was at, and no other."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False
        self._lock = Lock()

    def run(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> int:
        """Exit code of a command whose output is added to a file."""
        with log.open("a") as file:
            with self._lock:
                if self._ended:
                    return 1
                process = subprocess.Popen(command, stdout=file, stderr=file, env=env)
                self._running.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:  # `end` may be going through them
                    self._running.discard(process)

    def end(self) -> None:
        with self._lock:
            self._ended = True
            for process in self._running:
                process.terminate()


def _run(unit: Unit, studies: Mapping[Unit, Study], processes: _Processes) -> int:
    """Exit code of the unit's study."""
    study = studies[unit]
    study.root.mkdir(parents=True, exist_ok=True)
    for other, sibling in studies.items():
        if (other.world, other.seed) == (unit.world, unit.seed) and other != unit and adopt(study, sibling):
            break
    (study.root / CONFIG).write_text(json.dumps(study.config.model_dump(mode="json"), indent=1))  # JSON is YAML
    command = [sys.executable, "-m", "interp.cli", "study", str(study.root / CONFIG), "--out", str(study.root)]
    return processes.run(command, study.root / LOG, os.environ | {"OMP_NUM_THREADS": str(study.config.threads)})


def adopt(study: Study, sibling: Study) -> bool:
    """Take the models that do not depend on the kind from a sibling of the same seed, so that they are not trained
    again; False where the sibling has none, where it has another config, or where the study has its own already."""
    folder, theirs = study.folder("checkpoints"), sibling.folder("checkpoints")
    if folder.exists() or varied(study.config) != varied(sibling.config) or study.config.seed != sibling.config.seed:
        return False
    if not theirs.exists() or intact(theirs) is None:
        return False
    with disk_errors(folder), writing(folder, stage_key(study, "checkpoints")) as scratch:
        for name in OF_EVERY_KIND:
            if not (scratch / name).exists():
                with atomic_folder(scratch / name) as draft:
                    shutil.copytree(theirs / name, draft, dirs_exist_ok=True)
    return True


PRETRAINED = ("decorative", "functional", "coupled", "gated")
"""Kinds of which there are organisms made from a pre-trained model."""
ROW = "organism.json"
"""In a unit's folder: its row, of the report whose manifest it names."""
SCHEMA = {
    "world": pl.String,
    "family": pl.String,
    "kind": pl.String,
    "seed": pl.Int64,
    "truth": pl.String,
    "verdict": pl.String,
    "circuit": pl.String,
    **{f"{name}_{n}": pl.String for n in SIZES for name in ("verdict", "circuit")},
    "deciding": pl.Int64,
    "wording": pl.Int64,
    "executing": pl.Int64,
    "site": pl.String,
    "repairs_untouched": pl.Float64,
    "repairs_ablated": pl.Float64,
    "controls_low": pl.Float64,
    "controls_high": pl.Float64,
    **{f"accuracy_{name}": pl.Float64 for name in MODELS},
    **{f"{name}_loss": pl.Float64 for name in LOSSES},
    "mediated": pl.Float64,
    "words_planted": pl.Int64,
    "words_found": pl.Int64,
    "words_right": pl.Int64,
    **dict.fromkeys(INSTRUMENTS, pl.Boolean),
    "why": pl.String,
    "circuit_why": pl.String,
    "commit": pl.String,
    "error": pl.String,
}
"""Columns of the table. `verdict_N` and `circuit_N` are the verdicts from N of the problems; `style_loss` and the
others the accuracy lost under the arm that the removal was read from, by text; `words_*` count words that no lexicon
lists: those that the kind planted, those that the study found, and those in both."""


def table(studies: Mapping[Unit, Study], failed: Collection[Unit] = ()) -> pl.DataFrame:
    """One row an organism: what its study says, beside the truth. Of one whose study failed, `error` is the last line
    that it printed, and what it would have said is null: a report that an earlier run left there is not its."""
    rows = [_row(unit, study, failed=unit in failed) for unit, study in studies.items()]
    return pl.DataFrame(rows, schema=SCHEMA)


def _row(unit: Unit, study: Study, *, failed: bool) -> dict[str, Any]:
    about = {
        "world": unit.world,
        "family": "pre-trained" if study.config.checkpoints.given else study.config.organism.family,
        "kind": unit.kind,
        "seed": unit.seed,
        "truth": KINDS[unit.kind].truth,
    }
    manifest = None if failed else _manifest(study)
    if manifest is None:
        return about | {"error": _last_line(study.root / LOG)}
    kept, mark = study.root / ROW, digest(manifest)
    if kept.is_file() and (row := json.loads(kept.read_text())).pop("manifest") == mark:
        return row
    row = about | {"commit": manifest["commit"]} | _read(unit, study)
    with replacing(kept, ".json") as draft:
        draft.write_text(json.dumps(row | {"manifest": mark}))
    return row


def _read(unit: Unit, study: Study) -> dict[str, Any]:
    verdict = json.loads((study.folder("report") / "verdict.json").read_text())
    effects = pl.read_parquet(study.folder("causal") / "effects.parquet", glob=False)
    circuit = verdict["circuit"]
    repairs, controls = circuit["repairs"] or {}, circuit["matched_controls"] or {}
    return {
        "verdict": verdict["verdict"],
        "why": verdict["why"],
        "circuit": circuit["verdict"],
        "circuit_why": circuit["verdict_why"],
        "site": "blocks.{layer}.{name}".format(**circuit["site"]),
        "mediated": verdict["mediated_fraction"].get("estimate"),
        **{name: len(chosen) for name, chosen in circuit["latents"].items()},
        **{f"repairs_{name}": repairs.get(name) for name in ("untouched", "ablated")},
        **{f"controls_{name}": controls.get(name) for name in ("low", "high")},
        **{f"accuracy_{name}": model["accuracy"]["estimate"] for name, model in verdict["models"].items()},
        **{f"{name}_loss": _loss(verdict, claim) for name, claim in LOSSES.items()},
        **words(unit, [word["word"] for word in verdict["unlisted"]]),
        **{f"{name}_{n}": word for n, said in verdicts(study).items() for name, word in said.items()},
        **answers(verdict, effects),
    }


def _loss(verdict: Mapping[str, Any], claim: str) -> float | None:
    """Accuracy lost under the arm that a removal was read from."""
    arm = verdict["read_from"].get(claim)
    return None if arm is None else verdict["arms"][arm]["own"]["estimate"]


def words(unit: Unit, found: Sequence[str]) -> dict[str, int]:
    """Numbers of words that no lexicon lists: those that the kind planted, those found, and those in both."""
    spoken = " ".join(WORLDS[unit.world].hidden if unit.kind == HIDDEN else ()).lower()
    planted = set(re.findall(r"[^\W\d_]+", spoken))
    return {
        "words_planted": len(planted),
        "words_found": len(found),
        "words_right": sum(set(re.findall(r"[^\W\d_]+", word.lower())) <= planted for word in found),
    }


def _manifest(study: Study) -> dict[str, Any] | None:
    try:
        return read_manifest(study.folder("report"))
    except InterpError:
        return None


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text().splitlines()] if log.is_file() else []
    return next((line for line in reversed(lines) if line), "it was not run")


def in_turn(worlds: Sequence[str], kinds: Sequence[str], seeds: Sequence[int], workers: int) -> list[Unit]:
    """As many seeds as there are workers at a time, in every world; of these kind by kind, so that the first of a seed
    is done when its siblings begin. Kinds that a world cannot have are left out."""
    rounds = [seeds[i : i + workers] for i in range(0, len(seeds), workers)]
    of = {world: kinds_of(WORLDS[world]) if world in WORLDS else PRETRAINED for world in worlds}
    there = {world: [kind for kind in kinds if kind in of[world]] for world in worlds}
    found = (product([world], [kind], some) for some in rounds for world in worlds for kind in there[world])
    return [Unit(*unit) for units in found for unit in units]
