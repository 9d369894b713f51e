"""What `dry_run=true` prints: the plan of a run as a table."""

from async_r1.config import Config
from async_r1.plan import Plan
from async_r1.plan_roles import RolePlan

_COLUMNS = ("role", "threads", "GPUs", "memory", "command")


def plan_text(config: Config, plan: Plan, directory: str, memory_gib: float) -> str:
    """
    Args:
        directory: of the run that would start.
        memory_gib: that this host has.
    """
    rows = [_COLUMNS, *(_row(role) for role in plan.roles)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.append("")
    lines.append(f"cores      {plan.num_cores}{_sharing(config)}")
    host = [role.memory_gib for role in plan.roles if not role.gpus]
    lines += [f"GPU {fit.index:<6} {fit}" for fit in plan.gpus]
    if None not in host:
        total = sum(gib for gib in host if gib is not None)
        lines.append(f"memory     about {total:.1f} of {memory_gib:.1f} GiB of the host")
    if plan.staleness:
        lines.append(f"staleness  at most {plan.staleness}")
    lines += [f"note       {note}" for note in plan.notes]
    lines.append(f"directory  {directory}")
    return "\n".join(lines)


def _row(role: RolePlan) -> tuple[str, ...]:
    memory = "?" if role.memory_gib is None else f"{role.memory_gib:.2f} GiB"
    module = {"actor": "actors"}.get(role.kind, role.kind)
    index = "" if role.kind == "buffer" else f" --index {role.index}"
    return (
        role.name,
        str(role.threads),
        ",".join(role.gpus) or "-",
        memory,
        f"python -m {module} --config RUN/config/resolved.json{index}",
    )


def _sharing(config: Config) -> str:
    return ", used by actors and learner in turns" if config.mode == "sync" else ""
