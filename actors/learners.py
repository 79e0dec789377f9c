"""All learner ranks as one learner, seen from the driver."""

import asyncio
import dataclasses
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from actors.learner import Share
from actors.pool import DriverLoop
from actors.weights import Transport, WeightSender, WeightSums
from rl.records import Problem, UpdateReport
from rl.rows import MicroBatch, Row, build_microbatches, count_tokens


class ProblemRefs:
    """Open problems in Ray's object store, each once, whoever needs it, however often it is sent.

    Holds the newest `capacity`; one that fell out is simply put again.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._refs: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def put(self, problem: Problem) -> Any:
        """The problem's object ref, made at the first call."""
        # Training and held-out problems may bear the same ids.
        key = (problem.id, problem.question, problem.images)
        if key not in self._refs:
            self._refs[key] = ray.put(problem)
        self._refs.move_to_end(key)
        while len(self._refs) > self._capacity:
            self._refs.popitem(last=False)
        return self._refs[key]


class LearnerGroup:
    """Every rank's handle; each method reaches all ranks at the same time, as collectives need."""

    def __init__(
        self,
        handles: list[Any],
        loop: DriverLoop,
        *,
        refs: ProblemRefs,
        max_tokens: int,
        transport: Transport,
    ) -> None:
        self._ranks = handles
        self._loop = loop
        self._refs = refs
        self._max_tokens = max_tokens
        self._transport: Transport = transport

    def setup(self) -> None:
        """Let the ranks meet and shard the policy."""
        address, port = ray.get(self._ranks[0].free_address.remote())
        ray.get([rank.setup.remote(address, port) for rank in self._ranks])

    def update(self, rows: Sequence[Row]) -> UpdateReport:
        """One step over `rows`, cut into micro-batches and dealt to the ranks."""
        shares = self._shares(rows)
        tokens = count_tokens(rows)
        calls = [
            rank.update.remote(share, tokens)
            for rank, share in zip(self._ranks, shares, strict=True)
        ]
        reports: list[UpdateReport] = ray.get(calls)
        gaps = {index: gap for report in reports for index, gap in report.gaps.items()}
        return dataclasses.replace(reports[0], gaps=gaps)

    def logprobs(self, rows: Sequence[Row]) -> dict[int, tuple[float, ...]]:
        """The policy's logprobs of each answer's tokens, nats, by the answer's index."""
        shares = self._shares(rows)
        calls = [
            rank.logprobs.remote(share) for rank, share in zip(self._ranks, shares, strict=True)
        ]
        return {index: values for found in ray.get(calls) for index, values in found.items()}

    def _shares(self, rows: Sequence[Row]) -> list[Share]:
        dealt = build_microbatches(rows, self._max_tokens, len(self._ranks))
        return [self._share(batches) for batches in dealt]

    def _share(self, batches: Sequence[MicroBatch]) -> Share:
        problems = {row.problem.id: row.problem for batch in batches for row in batch}
        light = [
            tuple(
                dataclasses.replace(row, problem=dataclasses.replace(row.problem, images=()))
                for row in batch
            )
            for batch in batches
        ]
        return Share(light, [self._refs.put(problem) for problem in problems.values()])

    async def connect(self, engines: list[Any], ranks_per_engine: int) -> None:
        """Let every rank meet the engines; rank 0 will send."""
        address, port = await self._ranks[0].free_address.remote()
        sender = WeightSender(self._transport, engines, ranks_per_engine, address, port)
        await asyncio.gather(*[rank.connect.remote(sender) for rank in self._ranks])

    async def publish(self) -> WeightSums:
        """Send the weights; the sums of every weight as sent."""
        sums = await asyncio.gather(*[rank.publish.remote() for rank in self._ranks])
        return sums[0]

    def save(self, folder: Path) -> None:
        """Write all ranks' state to `folder`, which every rank's node must reach."""
        ray.get([rank.save.remote(folder) for rank in self._ranks])

    def restore(self, folder: Path) -> None:
        """Go on from `save`'s folder."""
        ray.get([rank.restore.remote(folder) for rank in self._ranks])

    def export(self, folder: Path) -> None:
        """Write the policy in Hugging Face layout."""
        ray.get([rank.export.remote(folder) for rank in self._ranks])

    def kill(self) -> None:
        """End all ranks."""
        for rank in self._ranks:
            ray.kill(rank)
