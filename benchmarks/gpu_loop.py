"""A random-weight Qwen3-0.6B shape through the whole loop on GPUs: transfer, pause, throughput.

    .venv/bin/python benchmarks/gpu_loop.py [--backend nccl|ipc|gloo] [--json]
    .venv/bin/python benchmarks/gpu_loop.py --cpu --quick      # the same path at a tiny size

With two GPUs learner and actor have one each (NCCL); with one they share it (`ipc`). What each
figure is held against is measured on the same device after the run: a device copy, a matrix
product, and bare `LLM.generate` on the prompts that the run sampled.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import common
import runs

from async_r1.config import Config
from async_r1.machine import Machine, read_machine
from async_r1.model_shape import shape_of
from async_r1.role import Resolved
from async_r1.run_dir import read_json
from async_r1.schema import build
from async_r1.view import RunView

SIDES = Path(__file__).with_name("gpu_loop_sides.py")
SIDE_TIMEOUT_S = 600
SKIPPED = 2  # first steps, which compile, warm up and form the weight group
TINY = (
    "{hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4, "
    "num_key_value_heads: 2, head_dim: 32, vocab_size: 256}"
)


def main() -> int:
    args = parse()
    machine = read_machine()
    if not args.cpu and not machine.usable_gpus:
        print(
            "error: gpu_loop needs a GPU that torch can use, there is none; --cpu --quick goes "
            "the same way without",
            file=sys.stderr,
        )
        return 2
    backend = args.backend or default_backend(args, machine)
    options = [*overrides(args), *placement(args, machine, backend)]
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(args.keep or temporary).resolve() / "run"
        view = runs.run(directory, options).view
        view.refresh()
        device = side("device", view)
        bare = side("generate", view)
        found = figures(view, device, bare)
        facts = common.conditions(
            device=device["name"],
            gpus=0 if args.cpu else machine.usable_gpus,
            weights=backend,
            shared=shares(args, machine, backend),
            **sizes(view),
        )
    common.print_conditions(facts)
    show(found)
    return common.finish(args, {**facts, **found})


def parse() -> argparse.Namespace:
    parser = common.parser(__doc__)
    parser.add_argument("--cpu", action="store_true", help="without a GPU, over gloo")
    parser.add_argument("--backend", choices=("nccl", "ipc", "gloo"), help="of the weights")
    parser.add_argument("--updates", type=int, default=0, help="optimizer steps; 0: 12, quick 5")
    parser.add_argument("--keep", type=Path, help="directory to keep the run in")
    return parser.parse_args()


def default_backend(args: argparse.Namespace, machine: Machine) -> str:
    if args.cpu:
        return "gloo"
    return "nccl" if machine.usable_gpus > 1 else "ipc"


def shares(args: argparse.Namespace, machine: Machine, backend: str) -> bool:
    """Whether learner and actor are on one GPU."""
    return not args.cpu and (backend == "ipc" or machine.usable_gpus < 2)


def placement(args: argparse.Namespace, machine: Machine, backend: str) -> list[str]:
    """Options that say where the roles run."""
    if args.cpu:
        return ["run.device=cpu", "actors=cpu", f"weights.backend={backend}"]
    options = [f"weights.backend={backend}", "run.device=gpu"]
    if shares(args, machine, backend):
        # Stated, because the learner allocates while vLLM would measure what is free.
        cache = int(0.3 * min(gpu.memory_mib for gpu in machine.gpus)) << 20
        options += ["run.colocate=true", "actors.engine.gpu_memory_utilization=0.4"]
        options += [f"actors.engine.kv_cache_memory_bytes={cache}"]
    return options


def overrides(args: argparse.Namespace) -> list[str]:
    """Options of the run: rollouts that hardly ever end by themselves, all of which train."""
    quick = args.quick
    length, new_tokens = (256, 48) if quick else (2048, 1024)
    options = [
        *("experiment=qwen3_0_6b", "model.init=random", "task=arithmetic", "task.template=plain"),
        *(
            "task.system_prompt=",
            "task.num_eval=2",
            "eval.every=0",
            "buffer.keep_zero_variance=true",
        ),
        *("reward.overlong=0", "learner.warmup_updates=0", "learner.checkpoint_every=0"),
        f"model.max_length={length}",
        f"task.max_new_tokens={new_tokens}",
        f"learner.num_updates={args.updates or (5 if quick else 12)}",
        f"learner.micro_batch_tokens={512 if quick else 16384}",
        f"learner.groups_per_update={2 if quick else 16}",
        f"buffer.group_size={4 if quick else 8}",
        f"actors.max_concurrent={8 if quick else 256}",
        f"actors.segment_tokens={16 if quick else 256}",
        "actors.rollout_token_budget=0",
    ]
    if quick:
        options += [f"model.shape={TINY}", "actors.engine.kv_cache_memory_bytes=67108864"]
    return options


def side(name: str, view: RunView) -> dict[str, Any]:
    """What a process of its own measures on the device of the run, which is free again."""
    environment = {**os.environ, "PYTHONPATH": str(common.ROOT)}
    if config_of(view).run.device == "cpu":
        environment |= common.ONE_THREAD
    done = subprocess.run(
        [sys.executable, str(SIDES), name, str(view.run_dir.root)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=SIDE_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise SystemExit(f"gpu_loop_sides.py {name} failed with exit code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.rstrip().splitlines()[-1])
    return result


def config_of(view: RunView) -> Config:
    """As the roles read it."""
    return build(Resolved, read_json(view.run_dir.resolved)).config


def sizes(view: RunView) -> dict[str, Any]:
    """Of the model and the run."""
    config = config_of(view)
    shape = shape_of(read_json(Path(config.model.path) / "config.json"))
    assert shape is not None
    return {
        "parameters": shape.num_parameters,
        "dtype": config.model.dtype,
        "concurrency": config.actors.max_concurrent,
        "new_tokens": config.task.max_new_tokens,
        "rollouts_a_step": config.learner.groups_per_update * config.buffer.group_size,
    }


def figures(view: RunView, device: dict[str, Any], bare: dict[str, Any]) -> dict[str, Any]:
    """All figures, from the rows of the run and the two measurements after it."""
    steps = view.steps[SKIPPED:]
    (rows,) = view.actors.values()
    sampling = [row for row in rows[SKIPPED:] if row["actor/engine_frac"] > 0]
    tokens = [row["tokens"] for row in view.steps]
    trained = [after - before for before, after in itertools.pairwise(tokens)]
    rates = [
        count / row["time/train_s"]
        for count, row in zip(trained[SKIPPED - 1 :], steps, strict=True)
    ]
    transfer_s = common.median(row["time/transfer_s"] for row in steps)
    num_bytes = view.steps[-1]["publish/bytes"]
    learner_rate = common.median(rates)
    actor_rate = common.median(row["perf/tokens_per_s"] for row in sampling)
    in_engine = common.median(
        row["perf/tokens_per_s"] / row["actor/engine_frac"] for row in sampling
    )
    assert transfer_s and learner_rate and actor_rate and in_engine
    flops = learner_rate * flops_per_token(view)
    return {
        "weight_bytes": num_bytes,
        "transfer_s": transfer_s,
        "publish_s": common.median(row["time/publish_s"] for row in steps),
        "update_pause_s": common.median(row["time/update_s"] for row in sampling),
        "bytes_per_s": num_bytes / transfer_s,
        "copy_bytes_per_s": device["copy_bytes_per_s"],
        "transfer_over_copy": num_bytes / transfer_s / device["copy_bytes_per_s"],
        "actor_tokens_per_s": actor_rate,
        "actor_tokens_per_s_in_engine": in_engine,
        "actor_idle_frac": common.median(row["actor/idle_frac"] for row in sampling),
        "bare_tokens_per_s": bare["tokens_per_s"],
        "actor_over_bare": actor_rate / bare["tokens_per_s"],
        "engine_over_bare": in_engine / bare["tokens_per_s"],
        "learner_tokens_per_s": learner_rate,
        "learner_idle_frac": common.median(row["learner/idle_frac"] for row in steps),
        "learner_flops": flops,
        "product_flops": device["product_flops"],
        "learner_share_of_product": flops / device["product_flops"],
        "staleness_mean": common.median(row["staleness/mean"] for row in steps),
        "mismatch_kl": common.median(row["mismatch_kl/mean"] for row in steps),
    }


def flops_per_token(view: RunView) -> float:
    """Of training: 6 per parameter that multiplies, and 6 h l a layer for causal attention.

    h is heads x head size, l the mean length. What gradient checkpointing computes again does not
    count, prompts neither (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
    """
    values = read_json(Path(config_of(view).model.path) / "config.json")
    shape = shape_of(values)
    assert shape is not None
    looked_up = 0 if values["tie_word_embeddings"] else shape.vocab_size * shape.hidden_size
    width = values["num_attention_heads"] * values["head_dim"]
    length = common.median(row["completion_length/mean"] for row in view.steps) or 0.0
    attention = 6.0 * shape.num_layers * width * length
    return float(6.0 * (shape.num_parameters - looked_up) + attention)


def show(found: dict[str, Any]) -> None:
    giga = 1e9
    rows = [
        ("weights sent", f"{found['weight_bytes'] / giga:.3f} GB", ""),
        ("transfer", f"{found['transfer_s']:.3f} s", "announced to loaded by every actor"),
        ("  rate", f"{found['bytes_per_s'] / giga:.2f} GB/s", ""),
        (
            "  of a copy in the device",
            f"{found['transfer_over_copy']:.1%}",
            f"{found['copy_bytes_per_s'] / giga:.1f} GB/s",
        ),
        ("publication", f"{found['publish_s']:.3f} s", "of the learner's time"),
        ("update pause of the actor", f"{found['update_pause_s']:.3f} s", "per version"),
        (
            "actor",
            f"{found['actor_tokens_per_s']:,.0f} tokens/s",
            f"idle {found['actor_idle_frac']:.0%}",
        ),
        (
            "  of bare LLM.generate",
            f"{found['actor_over_bare']:.1%}",
            f"{found['bare_tokens_per_s']:,.0f} tokens/s",
        ),
        (
            "  the same while it samples",
            f"{found['engine_over_bare']:.1%}",
            f"{found['actor_tokens_per_s_in_engine']:,.0f} tokens/s",
        ),
        (
            "learner while it trains",
            f"{found['learner_tokens_per_s']:,.0f} tokens/s",
            f"idle {found['learner_idle_frac']:.0%}",
        ),
        (
            "  of a matrix product",
            f"{found['learner_share_of_product']:.1%}",
            f"{found['learner_flops'] / 1e12:.3f} of {found['product_flops'] / 1e12:.3f} TFLOP/s",
        ),
    ]
    common.print_table(("figure", "value", "against or note"), rows)


if __name__ == "__main__":
    sys.exit(main())
