"""Whether a recipe fits a machine, and what would: what every job looks at before it starts."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from actors.cluster.plan import Plan, Recipe, plan_of
from actors.cluster.seats import Dealt, Node, deal, seats_of
from configs.jobs.grpo import GRPORecipe
from rl.console.errors import DoesNotFit
from rl.planning.changes import Changes, changed, changes_to_try, in_words
from rl.planning.context import context_of
from rl.planning.machine import Machine
from rl.planning.memory import CUDA_GIB, Memory, OnGPU, estimator, fullest_host, memory_of


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run on a machine, as far as it can be told beforehand."""

    recipe: Recipe
    plan: Plan
    machine: Machine
    dealt: Dealt | None
    """Its seats on the machine's nodes; None: the nodes are not known."""
    memory: Memory | None
    """None: the policy's shape is not known, or nothing of it is held here."""
    host: dict[str, float]
    """GiB of the fullest node's memory, by what they are."""
    context: str
    faults: tuple[str, ...]
    """Why it does not fit; none: it does."""

    def refuse_what_does_not_fit(self) -> None:
        """Nothing where the run fits.

        Raises:
            DoesNotFit: says why it does not, and the nearest change of the recipe that would.
        """
        if self.faults:
            change = nearest_change(self)
            way = f"The nearest change that fits: {in_words(change)}" if change else _NO_WAY
            raise DoesNotFit(f"{'; '.join(self.faults)}. {way}")


_NO_WAY = (
    "No change of one, two or three keys that was tried would fit: take a larger machine or a "
    "smaller policy"
)


def planned_run(recipe: Recipe, machine: Machine) -> PlannedRun:
    """The recipe's run on `machine`.

    Raises:
        DoesNotFit: the recipe names a transport or kernels that the device does not have.
    """
    plan = plan_of(recipe, _totals(machine))
    machine = machine.on(plan)
    faults: list[str] = []
    groups = seats_of(plan)
    dealt = None
    if machine.nodes is not None:
        dealt = deal(groups, machine.nodes)
        faults += _seat_faults(plan, dealt, machine)
    shape = estimator(recipe.policy)
    memory, host, context = None, {}, ""
    try:
        memory = memory_of(recipe, machine.gpu_gib)
    except DoesNotFit as error:
        faults.append(str(error))
    if memory is not None and shape is not None:
        found = context_of(recipe, shape)
        context = found.note
        faults += found.faults
        faults += _gpu_faults(recipe, memory, machine)
        on_nodes = dealt.on_nodes if dealt else ()
        host = fullest_host(memory, on_nodes)
        if plan.device == "cuda":  # a process without CUDA takes a fraction of what is counted
            faults += _host_faults(host, machine)
    return PlannedRun(recipe, plan, machine, dealt, memory, host, context, tuple(faults))


def nearest_change(run: PlannedRun) -> Changes | None:
    """The change of fewest keys with which the recipe fits the run's machine; None: none was
    found. Of equally many keys the one that costs the run least."""

    def fits(changes: Changes) -> bool:
        try:
            recipe = changed(run.recipe, changes)
            return not planned_run(recipe, run.machine).faults
        except (DoesNotFit, ValidationError):
            return False

    return next((changes for changes in changes_to_try(run.recipe) if fits(changes)), None)


def _totals(machine: Machine) -> Node:
    nodes = machine.nodes or ()
    names = {name for node in nodes for name in node}
    return {name: sum(node.get(name, 0.0) for node in nodes) for name in names}


def _seat_faults(plan: Plan, dealt: Dealt, machine: Machine) -> Iterator[str]:
    """Why not all seats are on the machine's nodes."""
    if not dealt.missing:
        return
    try:
        plan.check_fits(_totals(machine))
    except DoesNotFit as error:
        yield str(error)
        return
    assert machine.nodes is not None
    sizes = {group.name: group.bundle for group in seats_of(plan)}
    largest = max((node.get("GPU", 0.0) for node in machine.nodes), default=0.0)
    named = {name for node in machine.nodes for name in node}
    for role in plan.actors:
        for name in role.resources.keys() - named:
            yield (
                f"cluster.resources asks for {name} for {role.role}, which no node has; nodes have "
                f"{', '.join(sorted(name for name in named if ':' not in name))}"
            )
    for name, count in dealt.missing.items():
        needs = " and ".join(f"{amount:g} {what}" for what, amount in sizes[name].items())
        yield (
            f"{count} {name} of {needs} on one node find no room on {len(machine.nodes)} node(s), "
            f"of which the largest has {largest:g} GPU"
        )


def _gpu_faults(recipe: Recipe, memory: Memory, machine: Machine) -> Iterator[str]:
    gib = machine.gpu_gib
    if gib is None:
        return
    for held in memory.gpus:
        yield from held.tight
        for needed, there, when in _needs(recipe, held, gib):
            if needed > there:
                parts = ", ".join(f"{what} {size:.1f}" for what, size in held.parts.items())
                of = f" of {gib:.0f} GiB, beside an engine{when}," if there < gib else ""
                yield (
                    f"a {held.who} needs about {needed:.0f} GiB ({parts}, CUDA's own), and a GPU"
                    f"{of} has {there:.0f}"
                )
    if (needed := sum(memory.travelling.values())) > gib:
        parts = ", ".join(f"{what} {size:.1f}" for what, size in memory.travelling.items())
        yield (
            f"while weights travel, an engine and a learner rank need about {needed:.0f} GiB of "
            f"the GPU that they share ({parts}), and it has {gib:.0f}"
        )


def _needs(recipe: Recipe, held: OnGPU, gib: float) -> Iterator[tuple[float, float, str]]:
    """What is held, what of the GPU's `gib` there is for it, and in which state of an engine on the
    same GPU. Engines have been looked at."""
    if held.who == "engine":
        return
    grpo = recipe if isinstance(recipe, GRPORecipe) else None
    if grpo is None or not grpo.sync.shared_gpu or held.who != "learner rank":
        yield held.total, gib, ""
        return
    left = gib * (1.0 - grpo.rollout.gpu_memory_utilization)
    if grpo.engines_sleep:
        yield held.total, gib - CUDA_GIB, " that sleeps"
        yield held.at_rest, left, " that answers"
    else:
        yield held.total, left, ""


def _host_faults(host: dict[str, float], machine: Machine) -> Iterator[str]:
    needed = sum(host.values())
    if machine.host_gib is not None and needed > machine.host_gib:
        parts = ", ".join(f"{what} {gib:.1f}" for what, gib in host.items() if gib)
        yield (
            f"a node would hold about {needed:.0f} GiB on its host ({parts}), and it has "
            f"{machine.host_gib:.0f}"
        )
