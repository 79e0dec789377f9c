"""A vLLM worker on CPU that tells which experts each token went to.

vLLM's second model runner tells them, and engines on CPU have the first. All that it lacks is to
call the parts that note, keep and hand out the choices, which are vLLM's own.
"""

from typing import Any

import numpy as np
from vllm.distributed.aux_output_connector.worker import (
    AuxOutputWorkerConnector,
    PendingAuxOutput,
    get_aux_output_connector,
)
from vllm.v1.worker.cpu_worker import CPUWorker


class ExpertTellingWorker(CPUWorker):
    """Does around a step of the first model runner what the second does within."""

    _connector: AuxOutputWorkerConnector
    _pending: PendingAuxOutput | None = None

    def initialize_from_config(self, kv_cache_config: Any) -> None:
        """Take the memory of keys and values, and note from now on what routers choose."""
        super().initialize_from_config(kv_cache_config)
        self._connector = get_aux_output_connector(
            self.get_model(), self.vllm_config, kv_cache_config
        )

    def execute_model(self, scheduler_output: Any) -> Any:
        """The step of the model, whose routers fill the connector's buffer."""
        self._connector.begin_step(scheduler_output.aux_output_connector_metadata)
        made = super().execute_model(scheduler_output)
        if scheduler_output.total_num_scheduled_tokens:
            batch: Any = _Batch(self.model_runner)
            self._pending = self._connector.prepare_output(batch)
        return made

    def sample_tokens(self, grammar_output: Any) -> Any:
        """The step's tokens, with the experts of those that were read."""
        output: Any = super().sample_tokens(grammar_output)
        pending, self._pending = self._pending, None
        if pending is not None:
            drawn = np.array([len(ids) for ids in output.sampled_token_ids])
            pending.enqueue_cpu_copy(num_sampled=drawn, num_rejected=np.zeros_like(drawn))
            output.aux_output_connector_output = pending.process_output()
        return output


class _Batch:
    """What the connector asks the second model runner's batch for, of the first's."""

    def __init__(self, runner: Any) -> None:
        count = runner.input_batch.num_reqs
        self.req_ids = list(runner.input_batch.req_ids)
        self.query_start_loc_np = runner.query_start_loc.np[: count + 1].copy()
        self.num_computed_tokens_np = runner.input_batch.num_computed_tokens_cpu[:count].copy()
