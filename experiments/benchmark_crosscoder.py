"""How fast is the crosscoder engine beside its peers, on the same rows, in one run?

    pip install -c constraints.txt -e '.[benchmark]'
    python experiments/benchmark_crosscoder.py                       # the main table
    python experiments/benchmark_crosscoder.py --sweep               # curves over latents, k and batch

Every contestant lives in a process of its own, so that its peak memory is its own. They take turns of a few updates
each while the others wait, so that a machine that slows down slows all of them. FVE is measured between turns on rows
held out, under each one's gate of training; measuring is not timed.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import tyro
from contestants import CONTESTANTS, Shape, make

from interp.report.palette import Drawing, house_style, save, sheet

HELD_OUT = 4096


@dataclass(frozen=True)
class Options:
    """What is measured."""

    n_models: int = 3
    """Models side by side."""
    d_model: int = 576
    """Width of each."""
    n_latents: int = 8192
    """Latents."""
    k: int = 32
    """Active latents a row."""
    batch: int = 2048
    """Rows an update."""
    steps: int = 60
    """Updates of each contestant."""
    turn: int = 5
    """Updates in a turn."""
    lr: float = 1e-3
    """Learning rate of all."""
    warmup: int = 10
    """Updates over which it climbs."""
    threads: int = 2
    """Threads of each contestant, which run one at a time."""
    device: str = "cpu"
    """Device of all."""
    only: tuple[str, ...] = ()
    """Contestants whose names begin with one of these; all unless given."""
    sweep: bool = False
    """Measure over n_latents (2,048 to 32,768), k (8 to 128) and batch (512 to 8,192) instead, six updates each."""
    out: Path = Path("results/benchmark")
    """Folder of the tables."""
    figures: Path = Path("figures")
    """Folder of the figure."""


def make_rows(options: Options, n: int) -> torch.Tensor:
    """Planted rows [n, models * d_model], normalised."""
    from interp.crosscoder.planted import PlantedConfig, plant
    from interp.crosscoder.rows import fit_normaliser

    # Twice as many latents as the smallest dictionary of the sweep has, 60 of them on in a row.
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
    found = fit_normaliser(rows.split(1024))
    return ((rows - found.mean) * found.scale[:, None]).flatten(1)


def contest(name: str, shape: Shape, path: Path, threads: int, pipe: Connection) -> None:
    """A contestant's process: does the updates it is told to, and answers with what they took and gave."""
    torch.set_num_threads(threads)
    n_train = path.stat().st_size // (4 * shape.width) - HELD_OUT
    held_out = read_rows(path, n_train, HELD_OUT, shape)
    make(name, replace(shape, n_latents=2 * shape.k))  # so that libraries are loaded before memory is looked at
    before, peak = held_bytes(shape.device)[0], None
    contestant, at = make(name, shape), 0
    while (updates := pipe.recv()) is not None:
        seconds = []
        for _ in range(updates):
            x = read_rows(path, at * shape.batch % (n_train - shape.batch + 1), shape.batch, shape)
            began = time.perf_counter()
            contestant.update(x)
            if x.is_cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
            at += 1
        peak = peak or held_bytes(shape.device)[1]  # of the first turn, because scoring also takes memory
        pipe.send((seconds, peak, peak - before, *score(contestant, held_out, shape.batch)))


def read_rows(path: Path, start: int, n: int, shape: Shape) -> torch.Tensor:
    """Rows [n, width] of the file, read and not mapped, so that the page cache is not counted as anyone's memory."""
    flat = np.fromfile(path, np.float32, n * shape.width, offset=4 * start * shape.width)
    return torch.from_numpy(flat).view(n, shape.width).to(shape.device)


def held_bytes(device: str) -> tuple[int, int]:
    """(now, at most so far) held on the GPU, or by this process."""
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    # Not getrusage, which counts what the parent held when it started this process.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) * 1024, int(status["VmHWM"].split()[0]) * 1024


def score(contestant: Any, held_out: torch.Tensor, batch: int) -> tuple[float, float]:
    """(FVE as a ratio of sums about the mean, L0) on rows held out."""
    error, active = 0.0, 0.0
    for x in held_out.split(batch):
        x_hat, l0 = contestant.code(x)
        error += float((x_hat.double() - x.double()).square().sum())
        active += float(l0.sum())
    variance = float((held_out - held_out.mean(0)).double().square().sum())
    return 1 - error / variance, active / len(held_out)


def run(options: Options, names: list[str], rows: Path) -> pl.DataFrame:
    """All contestants in turns; one row a contestant and turn."""
    shape = Shape(
        options.n_models,
        options.d_model,
        options.n_latents,
        options.k,
        options.batch,
        options.steps,
        options.lr,
        options.warmup,
        options.device,
    )
    context, pipes, processes = multiprocessing.get_context("spawn"), {}, []
    for name in names:
        pipes[name], theirs = context.Pipe()
        process = context.Process(target=contest, args=(name, shape, rows, options.threads, theirs))
        process.start()
        theirs.close()  # so that a contestant's death is heard as the end of its pipe
        processes.append(process)
    table = []
    for done in range(0, options.steps, options.turn):
        for name, pipe in pipes.items():
            pipe.send(min(options.turn, options.steps - done))
            seconds, peak, own, fve, l0 = pipe.recv()
            settings = {"n_latents": options.n_latents, "k": options.k, "batch": options.batch}
            row = {"name": name, "step": done + len(seconds), "seconds": sum(seconds), "fastest": min(seconds)}
            table.append(settings | row | {"peak": peak, "own": own, "fve": fve, "l0": l0})
            print(f"{name:32s} step {row['step']:4d}  {1e3 * sum(seconds) / len(seconds):7.0f} ms  fve {fve:.4f}")
    for pipe in pipes.values():
        pipe.send(None)
    for process in processes:
        process.join()
    return pl.DataFrame(table)


def timed(table: pl.DataFrame, options: Options) -> pl.DataFrame:
    """Every turn with its contestant's milliseconds an update (`ms`: the median over turns, the first left out) and the
    time that all its updates so far take at that pace: what else the machine did in one turn counts in no other."""
    turn = pl.col("seconds") * 1e3 / pl.col("step").diff().over("name").fill_null(options.turn)
    later = turn.filter(pl.col("step") > options.turn) if options.steps > options.turn else turn
    return table.with_columns(later.median().over("name").alias("ms"), turn.alias("turn")).with_columns(
        (pl.col("step") * pl.col("ms") / 1e3).alias("elapsed")
    )


def summary(table: pl.DataFrame, options: Options) -> pl.DataFrame:
    """One row a contestant. `fve at equal time` is what each had reached when the first had done all its updates."""
    per = timed(table, options)
    trainers = per.filter(~pl.col("name").str.starts_with("encoder"))
    quickest = trainers.group_by("name").agg(pl.col("elapsed").max())["elapsed"].min()
    in_time = (
        trainers.filter(pl.col("elapsed") <= quickest)
        .group_by("name")
        .agg(pl.col("fve").last().alias("fve at equal time"))
    )
    return (
        per.group_by("name", maintain_order=True)
        .agg(
            pl.col("ms").last(),
            pl.col("turn").min().alias("ms, fastest turn"),
            (pl.col("peak").last() / 1e9).alias("peak GB"),
            (pl.col("own").last() / 1e9).alias("of it for training"),
            pl.col("fve").last(),
            pl.col("l0").last(),
        )
        .join(in_time, on="name", how="left", maintain_order="left")
        .with_columns((options.batch / pl.col("ms") * 1e3).alias("rows/s"))
    )


def sweep(options: Options, names: list[str], rows: Path) -> pl.DataFrame:
    """The same over sizes, a few updates each."""
    few = replace(options, steps=6, turn=2, warmup=2)
    settings = [{"n_latents": n} for n in (2048, 4096, 8192, 16384, 32768)]
    settings += [{"k": k} for k in (8, 128)] + [{"batch": b} for b in (512, 8192)]
    return pl.concat([run(replace(few, **changes), names, rows) for changes in settings])


def draw(table: pl.DataFrame, options: Options) -> Drawing:
    """FVE against seconds of training."""
    figure, (axes,) = sheet(1, 1, 7, 4)
    per = timed(table, options)
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
    return Drawing("benchmark", figure, "FVE against seconds of training", "A mark is a turn of a few updates.")


def draw_sweep(swept: pl.DataFrame, options: Options) -> Drawing:
    """Milliseconds an update against latents, active latents a row, and rows of a batch; the fastest update each."""
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
    panels[0].set_ylabel("milliseconds an update")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, fontsize=9)
    return Drawing("benchmark_sweep", figure, "Milliseconds an update over sizes", "The fastest update of each.")


SWEPT = {"n_latents": "latents", "k": "active latents a row", "batch": "rows an update"}


def looks(table: pl.DataFrame) -> dict[str, tuple[str, str]]:
    """A colour and a mark for every contestant."""
    return dict(zip(table["name"].unique(maintain_order=True), zip(COLOURS, SHAPES, strict=True), strict=False))


COLOURS = ("#D55E00", "#B8860B", "#0072B2", "#009E73", "#332288", "#AA4499", "#6B7280", "#A8ADB7")
SHAPES = ("o", "D", "s", "^", "v", "P", ".", ".")


def main(options: Options) -> None:
    """Measure, print, write."""
    options.out.mkdir(parents=True, exist_ok=True)
    names = [name for name in CONTESTANTS if not options.only or name.startswith(options.only)]
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
        with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, fmt_str_lengths=40, float_precision=4):
            print(found)
        drawing = partial(draw, table, options)
    rows.unlink()
    with house_style():
        save(drawing(), options.figures)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
