"""Triton's extensions of the protocol: configuration, statistics and repository of models.

Convert, delegate, convert, as `servicer`. Decides what Triton's words mean for us: a model's one version is
"1", its repository is whatever the server was told to serve, and a load reads the disk, never the message.
"""

# The methods' names are the protocol's.
# ruff: noqa: N802

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isthmus.runtime.bundle import TAIL
from isthmus.runtime.errors import IsthmusError, WireError
from isthmus.runtime.server.model import VERSION, ServedModel
from isthmus.runtime.server.refusals import refuse
from isthmus.runtime.server.service import ModelState, TailService
from isthmus.runtime.server.statistics import ModelStatistics, Total
from isthmus.runtime.server.worker_link import Change
from isthmus.runtime.wire import BUNDLE, LATENT, PAYLOAD, oip

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]

# Triton's names of a model's states.
_READY, _UNAVAILABLE = "READY", "UNAVAILABLE"
# A load with these would replace the model by what the message carries.
_FOREIGN = ("config", "file:")


class Extensions:
    """Answers Triton's extensions on a `grpc.aio` server; see `isthmus.runtime.wire.ExtensionServicer`."""

    def __init__(self, service: TailService, *, queue_frames: int, announce: Change | None = None) -> None:
        """Answer for `service`, of whose models each lets at most `queue_frames` latents wait.

        `announce` has other processes make a change that was made here.
        """
        self._service = service
        self._queue_frames = queue_frames
        self._announce = announce

    async def ModelConfig(self, request: oip.ModelConfigRequest, context: Context) -> oip.ModelConfigResponse:
        """Describe how one model is served; NOT_FOUND if there is no such model."""
        try:
            model = self._service.model(request.name, request.version)
        except IsthmusError as error:
            await refuse(context, error)
        return oip.ModelConfigResponse(config=model_config(model, queue_frames=self._queue_frames))

    async def ModelStatistics(
        self, request: oip.ModelStatisticsRequest, context: Context
    ) -> oip.ModelStatisticsResponse:
        """Return the counters of one model, of all if none is named; NOT_FOUND if there is no such model."""
        try:
            if request.name:
                self._service.model(request.name, request.version)
            names = [request.name] if request.name else sorted(self._service.models)
            counted = [model_statistics(name, self._service.statistics(name)) for name in names]
        except IsthmusError as error:
            await refuse(context, error)
        return oip.ModelStatisticsResponse(model_stats=counted)

    async def RepositoryIndex(
        self, request: oip.RepositoryIndexRequest, context: Context
    ) -> oip.RepositoryIndexResponse:
        """List the models that are served or could be, or only those that take frames."""
        states = sorted(self._service.index(), key=lambda state: state.name)
        return oip.RepositoryIndexResponse(
            models=[_index_line(state) for state in states if state.ready or not request.ready]
        )

    async def RepositoryModelLoad(
        self, request: oip.RepositoryModelLoadRequest, context: Context
    ) -> oip.RepositoryModelLoadResponse:
        """Load a model as it lies on the disk, or load it again; what was served before serves until then."""
        try:
            for name in request.parameters:
                if name.startswith(_FOREIGN):
                    raise WireError(
                        f"parameter {name!r}: a bundle is loaded from the server's disk alone; put it there"
                    )
            await self._service.load(_named(request))
            if self._announce is not None:
                await self._announce("load", _named(request))
        except IsthmusError as error:
            await refuse(context, error)
        return oip.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: oip.RepositoryModelUnloadRequest, context: Context
    ) -> oip.RepositoryModelUnloadResponse:
        """Take a model out of service; answered when its last frame is."""
        try:
            await self._service.unload(_named(request))
            if self._announce is not None:
                await self._announce("unload", _named(request))
        except IsthmusError as error:
            await refuse(context, error)
        return oip.RepositoryModelUnloadResponse()


def model_config(model: ServedModel, *, queue_frames: int) -> oip.ModelConfig:
    """Return Triton's description of `model`.

    Both inputs are optional: a request has one of them. A payload is one value a frame, hence without
    dimensions beside the batch's.
    """
    spec, backend = model.latent, model.backend
    on_cpu = "CPU" in backend.provider.upper()
    kind = oip.ModelInstanceGroup.KIND_CPU if on_cpu else oip.ModelInstanceGroup.KIND_GPU
    policy = oip.ModelQueuePolicy(timeout_action=oip.ModelQueuePolicy.REJECT, max_queue_size=queue_frames)
    facts = {BUNDLE: model.bundle.digest, "isthmus_provider": backend.provider}
    return oip.ModelConfig(
        name=model.name,
        platform="isthmus_bundle",
        backend="isthmus",
        version_policy=oip.ModelVersionPolicy(specific={"versions": [int(VERSION)]}),
        max_batch_size=backend.max_batch,
        input=[
            oip.ModelInput(
                name=LATENT,
                data_type=oip.TYPE_UINT8,
                dims=[spec.channels, spec.height, spec.width],
                optional=True,
            ),
            oip.ModelInput(name=PAYLOAD, data_type=oip.TYPE_STRING, optional=True),
        ],
        output=[
            oip.ModelOutput(
                name=backend.output, data_type=oip.TYPE_FP32, dims=[len(model.bundle.manifest.labels)]
            )
        ],
        instance_group=[oip.ModelInstanceGroup(name=model.name, count=1, kind=kind)],
        default_model_filename=TAIL,
        dynamic_batching=oip.ModelDynamicBatching(default_queue_policy=policy),
        parameters={name: oip.ModelParameter(string_value=value) for name, value in facts.items()},
        model_transaction_policy=oip.ModelTransactionPolicy(decoupled=False),
    )


def model_statistics(name: str, counted: ModelStatistics) -> oip.ModelStatistics:
    """Return the counters of the model `name` in Triton's form; decoding is its `compute_input`."""
    return oip.ModelStatistics(
        name=name,
        version=VERSION,
        last_inference=counted.last_ms,
        inference_count=counted.latents,
        execution_count=counted.executions,
        inference_stats=oip.InferStatistics(
            success=_duration(counted.success),
            fail=_duration(counted.fail),
            queue=_duration(counted.queue),
            compute_input=_duration(counted.decode),
            compute_infer=_duration(counted.compute),
            compute_output=oip.StatisticDuration(count=counted.success.count),
        ),
        batch_stats=[
            oip.InferBatchStatistics(batch_size=latents, compute_infer=_duration(total))
            for latents, total in sorted(counted.batches.items())
        ],
    )


def _duration(total: Total) -> oip.StatisticDuration:
    return oip.StatisticDuration(count=total.count, ns=total.ns)


def _index_line(state: ModelState) -> oip.RepositoryIndexResponse.ModelIndex:
    return oip.RepositoryIndexResponse.ModelIndex(
        name=state.name,
        version=VERSION,
        state=_READY if state.ready else _UNAVAILABLE,
        reason=state.reason,
    )


def _named(request: oip.RepositoryModelLoadRequest | oip.RepositoryModelUnloadRequest) -> str:
    # KServe's messages have the model's name in the field that is Triton's for the repository's.
    return request.model_name or request.repository_name
