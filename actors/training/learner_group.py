"""All learner ranks as one learner, seen from the driver."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from actors.cluster.crash_report import crash_report
from actors.cluster.driver_loop import DriverLoop
from actors.cluster.object_refs import ProblemRefs, SharedBatches
from actors.cluster.shared_folder import check_reached, file_visible
from actors.weight_transfer.rendezvous import Rendezvous
from configs.schema.learner import LearnerConfig
from configs.schema.rollout import Transport
from models.policy.features import KeptEmbeddings
from models.policy.weight_sums import WeightSums
from rl.algorithms.minibatches import UpdatePlan, one_report, with_old_logprobs
from rl.algorithms.rows import TrainingRow, build_microbatches, count_tokens
from rl.console.progress import wait_for
from rl.data.records import UpdateReport

_GRACE_S = 10.0
"""How much later than an error of the others, whose collective broke off, a death may be known."""


class LearnerDied(RuntimeError):
    """A learner rank is gone, and its shard with it; only a checkpoint can go on."""


class LearnerStuck(LearnerDied):
    """Learner ranks did not come to an end; what they hold is as good as gone."""


class LearnerGroup:
    """Every rank's handle; each method reaches all ranks at the same time, as collectives need.

    What takes longer than `timeout_s` seconds raises LearnerStuck.
    """

    def __init__(
        self,
        handles: list[Any],
        loop: DriverLoop,
        *,
        refs: ProblemRefs,
        plan: UpdatePlan,
        learner: LearnerConfig,
        transport: Transport,
    ) -> None:
        self._ranks = handles
        self._loop = loop
        self._refs = refs
        self._plan = plan
        self._max_tokens = learner.max_tokens_per_microbatch
        self._ranks_per_row = learner.ranks_per_row
        self._timeout_s = learner.timeout_s
        self._transport: Transport = transport
        self.turn = asyncio.Lock()
        """Held by whoever the ranks work for, in the order in which they came: a call from the main
        thread, or a whole sync of weights. Nobody's time runs while another is served."""

    def setup(self) -> None:
        """Let the ranks meet and shard the policy."""
        ((address, port),) = self._wait(
            "start", lambda: [self._ranks[0].open_rendezvous_store.remote()]
        )
        self._wait(
            "load the policy", lambda: [rank.setup.remote(address, port) for rank in self._ranks]
        )

    def kept_embeddings(self) -> KeptEmbeddings | None:
        """Where what engines can read of images is kept; None: nowhere."""
        return self._wait("tell", lambda: [self._ranks[0].kept_embeddings.remote()])[0]

    def check_folder(self, folder: Path) -> None:
        """Check that every rank reaches `folder`, where checkpoints will lie.

        Raises:
            UnusableFolder: names the nodes that do not.
        """
        check_reached(
            folder,
            lambda marker: self._wait(
                "start",
                lambda: [rank.__ray_call__.remote(file_visible, marker) for rank in self._ranks],
            ),
        )

    def update(self, rows: Sequence[TrainingRow]) -> UpdateReport:
        """The recipe's updates over `rows`, and what they did together."""
        batches = self._plan.split(rows)
        if late := self._plan.met_late(batches):
            known = self.logprobs(late)
            batches = [with_old_logprobs(batch, known) for batch in batches]
        epochs = range(self._plan.epochs)
        return one_report([self._update(batch) for _ in epochs for batch in batches])

    def _update(self, rows: Sequence[TrainingRow]) -> UpdateReport:
        """One update over `rows`, cut into micro-batches and dealt to the ranks, or to groups of
        those that share rows."""
        shares = self._shares(rows)
        tokens = count_tokens(rows)
        reports: list[UpdateReport] = self._wait(
            "update",
            lambda: [
                rank.update.remote(share, tokens)
                for rank, share in zip(self._ranks, shares, strict=True)
            ],
        )
        answers = {index: of for report in reports for index, of in report.answers.items()}
        largest = {"logprob_gap_max": max(said.largest_gap for said in answers.values())}
        return UpdateReport({**reports[0].metrics, **largest}, answers, reports[0].skips)

    def logprobs(self, rows: Sequence[TrainingRow]) -> dict[int, tuple[float, ...]]:
        """The policy's logprobs of each answer's tokens, nats, by the answer's index."""
        shares = self._shares(rows)
        found = self._wait(
            "read answers",
            lambda: [
                rank.logprobs.remote(share) for rank, share in zip(self._ranks, shares, strict=True)
            ],
        )
        return {index: values for own in found for index, values in own.items()}

    def _shares(self, rows: Sequence[TrainingRow]) -> list[SharedBatches]:
        groups = len(self._ranks) // self._ranks_per_row
        dealt = build_microbatches(rows, self._max_tokens, groups)
        shared = [self._refs.share(batches) for batches in dealt]
        return [share for share in shared for _ in range(self._ranks_per_row)]

    async def init_weight_transfer(self, engines: list[Any], ranks_per_engine: int) -> bool:
        """Let every rank meet the engines; rank 0 will send. True where later rounds will send
        every weight, as the first does. For whoever holds `turn`, as `send_weights`."""
        meeting = Rendezvous(self._transport, engines, ranks_per_engine)
        calls = [rank.init_weight_transfer.remote(meeting) for rank in self._ranks]
        return all(await self._each("meet the engines", calls))

    async def send_weights(self) -> WeightSums:
        """Send the weights; the sums of every weight as sent."""
        calls = [rank.send_weights.remote() for rank in self._ranks]
        sums: list[WeightSums] = await self._each("send weights", calls)
        return sums[0]

    def save(self, folder: Path) -> None:
        """Write all ranks' state to `folder`, which every rank's node must reach."""
        self._wait("save", lambda: [rank.save.remote(folder) for rank in self._ranks])

    def restore(self, folder: Path) -> None:
        """Go on from `save`'s folder."""
        self._wait("restore", lambda: [rank.restore.remote(folder) for rank in self._ranks])

    def export(self, folder: Path) -> None:
        """Write the policy in Hugging Face layout."""
        self._wait("write the policy", lambda: [rank.export.remote(folder) for rank in self._ranks])

    def _wait(self, work: str, begin: Callable[[], Sequence[Any]]) -> list[Any]:
        """What every rank returns to the calls that `begin` makes once it is their turn."""

        async def in_turn() -> list[Any]:
            async with self.turn:
                return await self._each(work, begin())

        done = self._loop.start(in_turn())
        return wait_for(done, lambda: f"the learner to {work}")

    async def _each(self, work: str, calls: Sequence[Awaitable[Any]]) -> list[Any]:
        """What every rank returns. The first death is raised at once, and an error soon: the other
        ranks may wait for that one in a collective for a long time.

        Raises:
            LearnerDied: a rank is gone, or time is up.
            RayTaskError: a rank raised it.
        """
        doing = [asyncio.ensure_future(_of(rank, call)) for rank, call in enumerate(calls)]
        try:
            await asyncio.wait(doing, timeout=self._timeout_s, return_when=asyncio.FIRST_EXCEPTION)
            failures = _failures(doing)
            if failures and not isinstance(failures[0], LearnerDied):
                await asyncio.wait(doing, timeout=_GRACE_S)
                failures = _failures(doing)
            if failures:
                raise failures[0]
            if open_ranks := [str(rank) for rank, each in enumerate(doing) if not each.done()]:
                raise LearnerStuck(
                    f"learner ranks {', '.join(open_ranks)} did not {work} within "
                    f"learner.timeout_s={self._timeout_s:g} s; raise it if they need longer, else "
                    "look into their logs"
                )
            return [each.result() for each in doing]
        finally:
            for each in doing:
                each.cancel()

    def kill(self) -> None:
        """End all ranks."""
        for rank in self._ranks:
            ray.kill(rank)


def _failures(doing: Sequence[asyncio.Future[Any]]) -> list[BaseException]:
    """What the finished ones raised, deaths first: they are why collectives of others broke."""
    raised = [each.exception() for each in doing if each.done()]
    found = [error for error in raised if error is not None]
    return sorted(found, key=lambda error: not isinstance(error, LearnerDied))


async def _of(rank: int, call: Any) -> Any:
    try:
        return await call
    except RayTaskError:  # raised by the rank, which lives; also where it met a dead engine
        raise
    except RayActorError as error:
        raise LearnerDied(f"learner rank {rank} died. {crash_report(error)}") from error
