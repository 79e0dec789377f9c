"""A planned run for a person: its actors, what they hold of GPUs and hosts, and whether it fits."""

from rich.table import Table

from actors.cluster.plan import Plan
from rl.console.progress import CONSOLE
from rl.planning.check import PlannedRun
from rl.planning.machine import Machine
from rl.planning.memory import CUDA_GIB, Memory


def print_run(run: PlannedRun) -> None:
    """Print the run's tables, and whether it fits."""
    plan, memory = run.plan, run.memory
    CONSOLE.print(plan_table(plan))
    travel = f", weights travel by {plan.transport}" if plan.transport else ""
    CONSOLE.print(f"device {plan.device}{travel}")
    if plan.device == "cuda":
        gpus = sum(each.count * each.gpus for each in plan.actors)
        cores = sum(each.count * each.cpus for each in plan.actors)
        CONSOLE.print(f"reserves {gpus:g} GPUs and {cores:g} cores in all")
        if memory is not None:
            _print_memory(run, memory)
    if run.context:
        CONSOLE.print(run.context)
    CONSOLE.print(_verdict(run))


def plan_table(plan: Plan) -> Table:
    """The actors."""
    table = Table("role", "actors", "GPUs each", "cores each", "what")
    for actors in plan.actors:
        more = "".join(f", takes {n:g} {name}" for name, n in actors.resources.items())
        what = f"{actors.what}{more}"
        cells = (actors.role, actors.count, f"{actors.gpus:g}", f"{actors.cpus:g}", what)
        table.add_row(*map(str, cells))
    return table


def _print_memory(run: PlannedRun, memory: Memory) -> None:
    parts = ", ".join(f"{part} {size:.3g}" for part, size in memory.parameters.items())
    learn = f"; {memory.learning:.3g} learn" if memory.learning else ""
    CONSOLE.print(f"parameters, billions: {parts}{learn}")
    CONSOLE.print(_gpu_table(memory))
    for held in memory.gpus:
        if held.note:
            CONSOLE.print(f"{held.who}: {held.note}")
    if memory.travelling:
        parts = ", ".join(f"{what} {gib:.1f}" for what, gib in memory.travelling.items())
        both = sum(memory.travelling.values())
        CONSOLE.print(f"while weights travel, GiB of a shared GPU: {both:.1f} ({parts})")
    if run.host:
        CONSOLE.print(_host_table(run.host))


def _gpu_table(memory: Memory) -> Table:
    names = dict.fromkeys(name for held in memory.gpus for name in held.parts)
    table = Table("GiB of a GPU", *(held.who for held in memory.gpus))
    for name in names:
        sizes = [held.parts.get(name) for held in memory.gpus]
        table.add_row(name, *("" if size is None else f"{size:.1f}" for size in sizes))
    table.add_row("CUDA", *(f"{CUDA_GIB:.1f}" for _ in memory.gpus), end_section=True)
    table.add_row("sum", *(f"{held.total:.1f}" for held in memory.gpus))
    return table


def _host_table(host: dict[str, float]) -> Table:
    table = Table("GiB of the fullest host", "")
    for name, gib in host.items():
        table.add_row(name, f"{gib:.1f}")
    table.add_section()
    table.add_row("sum", f"{sum(host.values()):.1f}")
    return table


def _verdict(run: PlannedRun) -> str:
    """What it was compared with, and what came of it."""
    if run.faults:
        return "does not fit"
    compared = _compared(run.machine)
    unknown = ""
    if run.plan.device == "cuda" and run.memory is None:
        path = run.recipe.policy.path
        unknown = f"; memory is not estimated: no config of {path!r} on this machine"
    elif run.plan.device == "cuda" and run.machine.nodes and run.machine.gpu_gib is None:
        unknown = "; not compared with a GPU's memory, which no GPU here tells: say " + (
            "cluster.gpu_memory_gib"
        )
    return f"{compared}{unknown}"


def _compared(machine: Machine) -> str:
    told: list[str] = []
    if machine.nodes is not None:
        gpus = sum(node.get("GPU", 0.0) for node in machine.nodes)
        told.append(f"{len(machine.nodes)} node(s) with {gpus:g} GPUs")
    if machine.gpu_gib is not None:
        told.append(f"GPUs of {machine.gpu_gib:.0f} GiB")
    if machine.host_gib is not None:
        told.append(f"{machine.host_gib:.0f} GiB on a host")
    if told:
        return f"fits {', '.join(told)}"
    return (
        "not compared with a machine: name one by cluster.nodes, cluster.gpus_per_node and "
        "cluster.gpu_memory_gib"
    )
