"""Mining against faiss: both directions of a nearest-neighbour search, one core.

    taskset -c 1 python tests/bench_mining.py [--queries 4000] [--candidates 40000] [--rounds 3]
    python tests/bench_mining.py --memory --queries 100000 --candidates 100000
    python tests/bench_mining.py --memory --queries 400000 --candidates 400000 --device cuda [--bf16]

Sides, interleaved: two exact searches of faiss (IndexFlatIP, as XTREME's mine_bitext), ours in
float32, ours in bfloat16 with float32 re-scoring. Random unit vectors of width 1024, of which a
tenth of the queries have a near copy. Process CPU time, medians. Needs faiss-cpu. With --memory the
whole of search.mine runs alone (no faiss): its time, the peak of its memory (and of the device's),
and how many of the near copies are among its pairs. Linux only.
"""

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import search  # noqa: E402

WIDTH, K = 1024, search.NEIGHBOURS


def planted(queries: int, candidates: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(candidates, WIDTH, generator=generator)
    x = torch.randn(queries, WIDTH, generator=generator)
    for row in range(0, queries, 10):
        x[row].mul_(0.5).add_(y[row // 10])
    for rows in (*x.split(1000), *y.split(1000)):          # in place: no copy that hides a peak
        rows /= rows.norm(dim=1, keepdim=True)
    return x, y


def faiss_both(x, y):
    import faiss
    found = []
    for one, other in ((x, y), (y, x)):
        index = faiss.IndexFlatIP(WIDTH)
        index.add(other.numpy())
        found.append(index.search(one.numpy(), K))
    return found


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def mine_alone(x: torch.Tensor, y: torch.Tensor, device: str, is_bf16: bool) -> None:
    """Time and peak memory of mining; the peak counts what generating the vectors took, too."""
    torch.zeros(1, device=device)
    before, begin, elapsed = resident(), time.process_time(), time.monotonic()
    pairs = search.mine(x.numpy(), y.numpy(), is_bf16, device=device)
    spent, elapsed = time.process_time() - begin, time.monotonic() - elapsed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = sum(a % 10 == 0 and b == a // 10 for _, a, b in pairs)
    print(f"{len(x):,} x {len(y):,}: {spent:.0f} s of CPU time, {elapsed:.0f} s in all; peak "
          f"{peak / 1e6:,.0f} MB, {(peak - before) / 1e6:,.0f} MB above the interpreter and the "
          f"vectors ({(x.nbytes + y.nbytes) / 1e6:,.0f} MB; all similarities would be "
          f"{4 * len(x) * len(y) / 1e6:,.0f} MB); {found:,} of {len(x[::10]):,} near copies found")
    if device != "cpu":
        print(f"{torch.cuda.get_device_name()}, {'bf16' if is_bf16 else 'fp32'}: peak "
              f"{torch.cuda.max_memory_allocated() / 1e6:,.0f} MB of the device's memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--queries", type=int, default=4000)
    parser.add_argument("--candidates", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="with --memory: bf16, re-scored in fp32")
    given = parser.parse_args()
    torch.set_num_threads(1)
    x, y = planted(given.queries, given.candidates)
    if given.memory:
        mine_alone(x, y, given.device, given.bf16)
        return
    import faiss
    faiss.omp_set_num_threads(1)
    sides = {"faiss, two searches": lambda: faiss_both(x, y),
             "ours, float32": lambda: search.neighbours(x, y, K),
             "ours, bfloat16 and re-scoring": lambda: search.neighbours(x, y, K, True)}
    times = {name: [] for name in sides}
    results = {}
    for _ in range(given.rounds):
        for name, run in sides.items():
            begin = time.process_time()
            results[name] = run()
            times[name].append(time.process_time() - begin)
    base = statistics.median(times["faiss, two searches"])
    for name, found in times.items():
        print(f"{name:32} {statistics.median(found):8.2f} s   {base / statistics.median(found):5.2f} x")
    (_, forward), (_, backward) = results["faiss, two searches"]
    for name in list(sides)[1:]:
        (_, ours), (_, back) = results[name]
        same = ((ours[:, 0].numpy() == forward[:, 0]).mean(),
                (back[:, 0].numpy() == backward[:, 0]).mean())
        print(f"{name:32} equal top-1: {same[0]:.4f} {same[1]:.4f}")


if __name__ == "__main__":
    main()
