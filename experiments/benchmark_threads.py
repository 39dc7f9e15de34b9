"""How OpenMP's waiting threads should behave: time of a training step on a quiet machine, and beside another process.

    python experiments/benchmark_threads.py

A thread that waits for the others can spin, which wakes it at once but takes a processor from whoever else wants one,
or sleep, which costs a system call each time. libgomp (the OpenMP of PyTorch's wheels for Linux) spins `GOMP_SPINCOUNT`
times, then sleeps. Every policy runs in a process of its own, in turns, alone and beside as many busy processes as
`--beside` says. The command `interp` sets the policy that the last line names.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

POLICIES: dict[str, dict[str, str]] = {
    "libgomp's default": {},
    "sleep at once (PASSIVE)": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 1,000": {"GOMP_SPINCOUNT": "1000"},
    "spin 3,000": {"GOMP_SPINCOUNT": "3000"},
    "spin 10,000": {"GOMP_SPINCOUNT": "10000"},
    "spin 30,000": {"GOMP_SPINCOUNT": "30000"},
    "spin 100,000": {"GOMP_SPINCOUNT": "100000"},
}
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Options:
    """What is timed, and how often."""

    threads: int = 2
    """CPU threads of the timed process."""
    beside: int = 1
    """Busy single-threaded processes in the second case."""
    seconds: float = 4.0
    """Seconds of timed steps in each turn."""
    turns: int = 3
    """Turns of every policy in each case; the median over their medians is printed."""
    policies: tuple[str, ...] = ()
    """Names of the policies to run; all unless given."""


def main(options: Options) -> None:
    chosen = options.policies or tuple(POLICIES)
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.turns):
        for case, n in (("quiet", 0), ("beside", options.beside)):
            busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
            try:
                for name in chosen:
                    found.setdefault((case, name), []).append(_run(POLICIES[name], options))
            finally:
                for process in busy:
                    process.kill()
    best = {case: min(statistics.median(found[case, name]) for name in chosen) for case in ("quiet", "beside")}
    print(f"{'policy':<26}{'quiet, ms':>10}{'x best':>8}{'beside, ms':>12}{'x best':>8}{'worst':>8}")
    worst = {}
    for name in chosen:
        quiet, beside = (statistics.median(found[case, name]) for case in ("quiet", "beside"))
        ratios = quiet / best["quiet"], beside / best["beside"]
        worst[name] = max(ratios)
        print(f"{name:<26}{quiet:>10.0f}{ratios[0]:>8.2f}{beside:>12.0f}{ratios[1]:>8.2f}{worst[name]:>8.2f}")
    chosen_name = min(worst, key=worst.__getitem__)
    print(f"least bad in its worse case: {chosen_name} ({worst[chosen_name]:.2f} times the best)")


def _run(policy: dict[str, str], options: Options) -> float:
    """Median milliseconds of a step under a policy."""
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES} | policy
    worker = [sys.executable, __file__, "--worker", json.dumps([options.threads, options.seconds])]
    done = subprocess.run(worker, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _work(threads: int, seconds: float) -> None:
    """Time the organism's training step: 32 documents of 64 tokens, forward and backward."""
    import torch

    from interp.organisms.architecture import make_model
    from interp.organisms.chains import CHAINS
    from interp.organisms.tokenizers import vocabulary

    torch.set_num_threads(threads)
    model = make_model(96, 3, 4, 0, CHAINS.tokenizer())
    ids = torch.randint(len(vocabulary(CHAINS.tokenizer())), (32, 64), generator=torch.Generator().manual_seed(0))
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        model.zero_grad()
        times.append(time.perf_counter() - start)
    print(1000 * statistics.median(times[2:]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        _work(*json.loads(sys.argv[2]))
    else:
        import tyro

        main(tyro.cli(Options, description=__doc__))
