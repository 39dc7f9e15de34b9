"""Time and memory per update of the crosscoder engine and its peers, on the same rows, in one run.

    pip install -c constraints.txt -e '.[benchmark]'
    python experiments/benchmark_crosscoder.py                       # the main table
    python experiments/benchmark_crosscoder.py --sweep               # curves over latents, k and batch

Every contestant runs in a process of its own, so that its peak memory is its own. They take turns of a few updates
each while the others wait, so that a machine that slows down slows all of them. FVE is measured between turns on
held-out rows, under each one's gate of training, and is not timed.

In every second turn a share of the latents, the same for all, is dead, so that AuxK is part of the timed updates; in
the other turns none is. The dead latents are kept from firing by encoder weights near zero in both kinds of turn, and
in the first kind each trainer's own counter is past its own threshold (`contestants.hold_dead`); neither is timed.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
import tyro
from contestants import CONTESTANTS, Contestant, Recipe, Shape, hold_dead, make, normalised, weak_rows
from terms import TERMS, show_terms, with_shared

from interp.report.palette import Drawing, house_style, save, sheet

HELD_OUT = 4096
DEAD_AFTER = 100_000
"""Rows after which a latent is dead; the counters are set by hand, so that the value has no effect on the times."""


@dataclass(frozen=True)
class Options:
    """What is measured."""

    n_models: int = 3
    """Number of models, read side by side."""
    d_model: int = 576
    """Width of each model."""
    n_latents: int = 8192
    """Number of latents."""
    k: int = 32
    """Active latents per row."""
    batch: int = 2048
    """Rows per update."""
    steps: int = 80
    """Updates of each contestant."""
    turn: int = 4
    """Updates in a turn."""
    dead_share: float = 0.25
    """Share of the latents that never fire, in [0, 1); AuxK counts them as dead in every second turn."""
    lr: float = 1e-3
    """Learning rate of all."""
    warmup: int = 10
    """Updates of linear warm-up."""
    threads: int = 2
    """Threads of each contestant, which run one at a time."""
    device: str = "cpu"
    """Device of all."""
    only: tuple[str, ...] = ()
    """Contestants whose names begin with one of these. Unless given, all but, on a CPU, dictionary-learning in bfloat16
    (its own training uses autocast on CUDA alone) and, where the CPU emulates bfloat16, all others in it."""
    sweep: bool = False
    """Measure over n_latents (2,048 to 32,768), k (8 to 128) and batch (512 to 8,192) instead, six updates each, with
    AuxK in all of them."""
    out: Path = Path("results/benchmark")
    """Folder of the tables."""
    figures: Path = Path("figures")
    """Folder of the figure."""


def make_rows(options: Options, n: int) -> torch.Tensor:
    """Planted rows [n, models * d_model] in float32, normalised."""
    from interp.crosscoder.planted import PlantedConfig, plant

    # Almost twice as many latents as the smallest dictionary of the sweep has, of which 60 are on in a row.
    config = PlantedConfig(
        n_models=options.n_models,
        d_model=options.d_model,
        n_shared=3000,
        n_exclusive=300,
        n_rescaled=300,
        factors=tuple(0.5**i for i in range(options.n_models)),
    )
    planted = plant(config)
    rows = torch.cat([planted.rows(min(4096, n - start), seed=start) for start in range(0, n, 4096)])
    return normalised(rows)[0]


class Turn(NamedTuple):
    """What a contestant is to do in one turn."""

    updates: int
    counted: bool
    """Whether AuxK counts the latents that never fire as dead."""


class Report(NamedTuple):
    """What one turn took and gave."""

    seconds: list[float]
    """Wall time of each update."""
    dead: float
    """Mean share of the latents that the trainer's own counter calls dead, over the updates."""
    peak: int
    """Bytes at most held in the first turn, in which AuxK runs; scoring, which takes memory too, comes after it."""
    own: int
    """Bytes of these that were not held before the contestant was made."""
    fve: float
    l0: float


def contest(name: str, shape: Shape, recipe: Recipe, share: float, path: Path, threads: int, pipe: Connection) -> None:
    """A contestant's process: reads a `Turn` from the pipe, makes its updates, and sends a `Report`, until None."""
    torch.set_num_threads(threads)
    n_train = path.stat().st_size // (4 * shape.width) - HELD_OUT
    held_out = read_rows(path, n_train, HELD_OUT, shape)
    make(name, replace(shape, n_latents=2 * shape.k), recipe)  # loads the libraries before memory is looked at
    before, peak = held_bytes(shape.device)[0], None
    contestant, at = make(name, shape, recipe), 0
    dead = evenly(shape.n_latents, share).to(shape.device)
    weak = weak_rows(contestant, dead)
    while (turn := pipe.recv()) is not None:
        seconds, shares = [], []
        for _ in range(turn.updates):
            x = read_rows(path, at * shape.batch % (n_train - shape.batch + 1), shape.batch, shape)
            hold_dead(contestant, dead, weak, counted=turn.counted)
            seconds.append(wall_time(contestant.update, x))
            shares.append(contestant.counter().dead_share())
            at += 1
        peak = peak or held_bytes(shape.device)[1]
        score = fve_and_l0(contestant, held_out, shape.batch)
        pipe.send(Report(seconds, statistics.mean(shares), peak, peak - before, *score))


def wall_time(update: Callable[[torch.Tensor], None], x: torch.Tensor) -> float:
    """Seconds of one update, the device's work included."""
    if x.is_cuda:
        torch.cuda.synchronize()
    began = time.perf_counter()
    update(x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def evenly(n: int, share: float) -> torch.Tensor:
    """round(n * share) places below n, evenly spaced."""
    count = round(n * share)
    return torch.arange(count) * n // max(1, count)


def read_rows(path: Path, start: int, n: int, shape: Shape) -> torch.Tensor:
    """Rows [n, width] of the file; read, not mapped, so that the page cache does not count as a contestant's memory."""
    flat = np.fromfile(path, np.float32, n * shape.width, offset=4 * start * shape.width)
    return torch.from_numpy(flat).view(n, shape.width).to(shape.device)


def held_bytes(device: str) -> tuple[int, int]:
    """Bytes held (now, at most so far) on the GPU, or else by this process."""
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    # Not getrusage, which includes what the parent held when it started this process.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) * 1024, int(status["VmHWM"].split()[0]) * 1024


def fve_and_l0(contestant: Contestant, held_out: torch.Tensor, batch: int) -> tuple[float, float]:
    """(FVE as a ratio of sums about the mean, active latents per row) on held-out rows."""
    error, active = 0.0, 0.0
    for x in held_out.split(batch):
        x_hat, l0 = contestant.code(x)
        error += float((x_hat.double() - x.double()).square().sum())
        active += float(l0.sum())
    variance = float((held_out - held_out.mean(0)).double().square().sum())
    return 1 - error / variance, active / len(held_out)


def run(options: Options, names: list[str], rows: Path) -> pl.DataFrame:
    """All contestants in turns; one row per contestant and turn."""
    shape = Shape(
        options.n_models,
        options.d_model,
        options.n_latents,
        options.k,
        options.batch,
        options.steps,
        options.device,
    )
    recipe = Recipe(options.lr, options.warmup, dead_after=DEAD_AFTER, k_aux=shape.width // 2)
    context, pipes, processes = multiprocessing.get_context("spawn"), {}, []
    for name in names:
        pipes[name], theirs = context.Pipe()
        arguments = (name, shape, recipe, options.dead_share, rows, options.threads, theirs)
        processes.append(context.Process(target=contest, args=arguments))
        processes[-1].start()
        theirs.close()  # so that recv raises EOFError when the contestant dies
    table = [take(name, turn, done, pipe, options) for done, turn in turns(options) for name, pipe in pipes.items()]
    for pipe in pipes.values():
        pipe.send(None)
    for process in processes:
        process.join()
    return pl.DataFrame(table)


def turns(options: Options) -> list[tuple[int, Turn]]:
    """(updates made before it, turn) of a contest; AuxK runs in the first turn and every second one after it, in a
    sweep in all."""
    starts = range(0, options.steps, options.turn)
    return [
        (start, Turn(min(options.turn, options.steps - start), counted=options.sweep or i % 2 == 0))
        for i, start in enumerate(starts)
    ]


def take(name: str, turn: Turn, done: int, pipe: Connection, options: Options) -> dict[str, Any]:
    """One contestant's turn, as a row of the table."""
    pipe.send(turn)
    report: Report = pipe.recv()
    total, step = sum(report.seconds), done + turn.updates
    ms = 1e3 * total / turn.updates
    print(f"{name:44s} step {step:4d}  dead {report.dead:.3f}  {ms:7.0f} ms  fve {report.fve:.4f}", flush=True)
    settings = {"name": name, "n_latents": options.n_latents, "k": options.k, "batch": options.batch}
    times = {"step": step, "counted": turn.counted, "turn": ms, "fastest": min(report.seconds)}
    return settings | times | {"updates": turn.updates} | {k: v for k, v in report._asdict().items() if k != "seconds"}


def timed(table: pl.DataFrame) -> pl.DataFrame:
    """Every turn with its contestant's milliseconds per update in turns of its kind, with AuxK or without (`ms`: the
    median over turns, the first of each kind left out where there are more), and with the seconds that all updates so
    far take at these paces (`elapsed`): a disturbance in one turn counts in no other."""
    kind = ["name", "counted"]
    table = table.with_columns(pl.int_range(pl.len()).over(kind).alias("nth"), pl.len().over(kind).alias("of"))
    kept = pl.col("turn").filter((pl.col("nth") > 0) | (pl.col("of") == 1))
    table = table.with_columns(kept.median().over(kind).alias("ms"))
    elapsed = (pl.col("updates") * pl.col("ms") / 1e3).cum_sum().over("name")
    return table.with_columns(elapsed.alias("elapsed")).drop("nth", "of")


def summary(table: pl.DataFrame, options: Options) -> pl.DataFrame:
    """One row per contestant: times with and without dead latents, rows per second with them, memory, and quality.
    `fve at equal time` is what each had reached when the first had made all its updates."""
    per = timed(table)
    trainers = per.filter(~pl.col("name").str.starts_with("encoder"))
    quickest = trainers.group_by("name").agg(pl.col("elapsed").max())["elapsed"].min()
    in_time = (
        trainers.filter(pl.col("elapsed") <= quickest)
        .group_by("name")
        .agg(pl.col("fve").last().alias("fve at equal time"))
    )
    dead = pl.col("counted")
    return (
        per.group_by("name", maintain_order=True)
        .agg(
            pl.col("dead").filter(dead).mean().alias("dead"),
            pl.col("ms").filter(dead).last().alias("ms, AuxK at work"),
            pl.col("ms").filter(~dead).last().alias("ms, none dead"),
            (options.batch * 1e3 / pl.col("ms").filter(dead).last()).alias("rows/s, AuxK at work"),
            (pl.col("peak").last() / 1e9).alias("peak GB"),
            (pl.col("own").last() / 1e9).alias("of it for training"),
            pl.col("fve").last(),
            pl.col("l0").last(),
        )
        .join(in_time, on="name", how="left", maintain_order="left")
    )


def sweep(options: Options, names: list[str], rows: Path) -> pl.DataFrame:
    """The turns of contests over sizes, a few updates each."""
    few = replace(options, steps=6, turn=2, warmup=2, sweep=True)
    settings = [{"n_latents": n} for n in (2048, 4096, 8192, 16384, 32768)]
    settings += [{"k": k} for k in (8, 128)] + [{"batch": b} for b in (512, 8192)]
    return pl.concat([run(replace(few, **changes), names, rows) for changes in settings])


def draw(table: pl.DataFrame, options: Options) -> Drawing:
    """FVE against seconds of training."""
    figure, (axes,) = sheet(1, 1, 7, 4)
    per = timed(table)
    for name, (colour, shape) in looks(table).items():
        if not name.startswith("encoder"):
            own = per.filter(pl.col("name") == name)
            axes.plot(own["elapsed"], own["fve"], color=colour, marker=shape, ms=4, label=name)
    axes.set(
        xlabel="seconds of training (updates times their median)",
        ylabel="FVE on held-out rows (1 is perfect)",
        xscale="log",
    )
    axes.legend(fontsize=8)
    return Drawing(
        "benchmark",
        figure,
        "FVE against seconds of training",
        "A mark is a turn of a few updates; in every second one AuxK is at work.",
    )


def draw_sweep(swept: pl.DataFrame, options: Options) -> Drawing:
    """Milliseconds per update against latents, active latents per row, and rows per update; the fastest of a few."""
    figure, panels = sheet(1, 3, 13, 4, sharey=True)
    for axes, (column, title) in zip(panels, SWEPT.items(), strict=True):
        others = [pl.col(c) == getattr(options, c) for c in SWEPT if c != column]
        for name, (colour, shape) in looks(swept).items():
            own = swept.filter(pl.col("name") == name, *others).group_by(column).agg(pl.col("fastest").min())
            own, dashed = own.sort(column), "--" if name.startswith("encoder") else "-"
            axes.plot(own[column], own["fastest"] * 1e3, dashed, color=colour, marker=shape, ms=4, label=name)
        axes.set(xlabel=title, xscale="log", yscale="log")
        sizes = sorted(swept.filter(*others)[column].unique())
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.set_xticks([], minor=True)
    panels[0].set_ylabel("milliseconds per update, AuxK at work")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, fontsize=9)
    return Drawing("benchmark_sweep", figure, "Milliseconds per update over sizes", "The fastest update of each.")


SWEPT = {"n_latents": "latents", "k": "active latents per row", "batch": "rows per update"}


def looks(table: pl.DataFrame) -> dict[str, tuple[str, str]]:
    """Colour and marker of every contestant."""
    return dict(zip(table["name"].unique(maintain_order=True), zip(COLOURS, SHAPES, strict=True), strict=False))


COLOURS = ("#D55E00", "#B8860B", "#0072B2", "#009E73", "#332288", "#AA4499", "#882255", "#44AA99", "#6B7280", "#A8ADB7")
SHAPES = ("o", "D", "s", "^", "v", "P", "X", "<", ".", ".")


def shared_terms(options: Options) -> dict[str, str]:
    """What this script sets for all trainers."""
    return {
        "rows": "float32, normalised, equal order",
        "arithmetic": "float32, or bfloat16 by each one's own means, as named",
        "updates": f"{options.steps} of {options.batch:,} rows on {options.threads} threads",
        "latents": f"{options.n_latents:,}, of which {options.dead_share:.0%} never fire",
        "k": f"{options.k}, fixed",
        "optimiser": "Adam, betas .9 and .999; linear warm-up, then constant",
        "AuxK's latents per row": "half the width of all models (an option of interp, set to what the peers have)",
        "AuxK": "at work in every second turn, with that share dead",
    }


def contestants(options: Options) -> list[str]:
    """Names of those that take part; what is left out is printed."""
    if options.only:
        return [name for name in CONTESTANTS if name.startswith(options.only)]
    if options.device.startswith("cuda"):
        return list(CONTESTANTS)
    capable = torch.cpu.get_capabilities()
    emulated = not (capable.get("avx512_bf16") or capable.get("amx_bf16"))
    out = [name for name in CONTESTANTS if "bf16" in name and (emulated or name.startswith("dictionary-learning"))]
    print(f"Left out on this CPU (--only takes them in all the same): {'; '.join(out)}")
    return [name for name in CONTESTANTS if name not in out]


def main(options: Options) -> None:
    """Measure, print, write."""
    options.out.mkdir(parents=True, exist_ok=True)
    names = contestants(options)
    rows = options.out / "rows.bin"
    make_rows(options, max(32 * options.batch, 4 * 8192) + HELD_OUT).numpy().tofile(rows)
    if options.sweep:
        swept = sweep(options, names, rows)
        swept.write_parquet(options.out / "sweep.parquet")
        drawing = partial(draw_sweep, swept, options)
    else:
        table = run(options, names, rows)
        table.write_parquet(options.out / "turns.parquet")
        found = summary(table, options)
        found.write_parquet(options.out / "summary.parquet")
        print(show_terms(with_shared(shared_terms(options), set(TERMS))))
        with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=180, fmt_str_lengths=48, float_precision=4):
            print(found)
        drawing = partial(draw, table, options)
    rows.unlink()
    with house_style():
        save(drawing(), options.figures)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
