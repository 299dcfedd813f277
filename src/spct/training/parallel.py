"""Training on several processes, and in mixed precision on one: FSDP2 behind a few functions.

Weights, gradients and optimiser state are sharded by decoder layer, embeddings and head by one more
group (``torch.distributed.fsdp.fully_shard``, torch 2.13). On a model that is not sharded every
function does what its plain counterpart does, bit for bit, so the stages have one code path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spct.training.precision import Precision
from spct.training.world import World

T = TypeVar("T")
_ENTRY = "_spct_run"  # the method of a sharded model that gathers weights around any function


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The decoder's layers, in order. Raises ``ValueError`` if they are not found."""
    decoder = model.get_decoder()  # type: ignore[operator]
    count = decoder.config.get_text_config().num_hidden_layers
    found = [m for m in decoder.children() if isinstance(m, nn.ModuleList) and len(m) == count]
    if len(found) != 1:
        raise ValueError(f"{type(decoder).__name__} has no list of its {count} layers to shard")
    return list(found[0])


def shard(model: nn.Module, world: World, precision: Precision, *, recompute: bool = False) -> None:
    """Prepare a ``transformers`` model for training, in place, before its optimiser is made.

    ``recompute`` is activation checkpointing of each decoder layer. Several processes: every layer
    is sharded, and the rest as one unit. Mixed precision: the same, also over a world of one; then
    weights and reduced gradients stay in ``precision.weights``. Otherwise the model stays as it is.
    ``spct.training.choice.choose`` must have seen the model before. A model without trainable
    weights (a reference) is served too.

    Memory a process, P weights on N processes, AdamW: 16 P / N bytes, and unsharded in
    ``precision.compute`` two layers, the embeddings and the head. A model that comes on the CPU
    (:attr:`World.loads_on`) goes to the devices shard by shard. Raises ``ValueError`` on weights
    of another dtype than ``precision.weights``.
    """
    if recompute:
        _recompute(model)
    if world.size == 1 and not precision.mixed:
        return
    dtypes = {p.dtype for p in model.parameters()} - {precision.weights}
    if dtypes:
        raise ValueError(f"weights are {dtypes.pop()}; load them as {precision.weights}")
    from torch.distributed.fsdp import (
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    policy = MixedPrecisionPolicy()
    if precision.mixed:
        policy = MixedPrecisionPolicy(param_dtype=precision.compute, reduce_dtype=precision.weights)
    mesh = _mesh(world)
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    setattr(model, _ENTRY, lambda function: function(model))
    register_fsdp_forward_method(model, _ENTRY)
    with torch.no_grad():
        through(model, lambda _: None)  # settles that the whole model is the root


def _recompute(model: Any) -> None:
    old = model.gradient_checkpointing_enable  # its name until transformers 5.2x
    getattr(model, "activation_checkpointing_enable", old)({"use_reentrant": False})


def _mesh(world: World) -> Any:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    if world.size == 1 and not dist.is_initialized():
        backend = "nccl" if world.device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    return init_device_mesh(world.device.type, (world.size,))


def sharded(model: nn.Module) -> bool:
    """Whether :func:`shard` split the model."""
    return hasattr(model, _ENTRY)


def through(model: nn.Module, function: Callable[[nn.Module], T]) -> T:
    """``function(model)``, a whole pass from token ids to whatever is differentiated.

    Inside, every weight may be used, also outside of its module's forward pass, as the chunked
    log-probs use the output embedding. All processes call this equally often and run each layer
    equally often inside. The result holds its tensors in tuples, lists or dicts; a loss may be
    computed from it outside.
    """
    if not sharded(model):
        return function(model)
    try:
        result: T = getattr(model, _ENTRY)(function)
    finally:
        if not torch.is_grad_enabled():
            # no backward pass will free the root's weights, and a step makes them stale
            model.reshard()  # type: ignore[operator]
    return result


def backward(model: nn.Module, loss: Tensor, world: World, *, last: bool) -> None:
    """Add the gradient of this process's ``loss`` to that of its other micro-batches.

    After the ``last`` one of a step, gradients are the sum over all processes. Until then they stay
    here, unsharded: 4 bytes a weight, and no traffic.
    """
    if sharded(model):
        model.set_requires_gradient_sync(last or world.size == 1)  # type: ignore[operator]
    if world.size > 1:
        loss = loss * world.size  # FSDP takes the mean over processes
    loss.backward()


def clip(parameters: Iterable[Tensor], most: float) -> float:
    """Scale gradients down to the norm ``most``; the norm before, over all shards of all weights.

    Every process gets the same number, so one that is not finite is seen by all of them.
    """
    own = [p for p in parameters if p.grad is not None]
    norm = _whole(nn.utils.get_total_norm([p.grad for p in own if p.grad is not None]))
    nn.utils.clip_grads_with_norm_(own, most, norm)
    return float(norm)


@contextmanager
def unsharded(*models: nn.Module) -> Iterator[None]:
    """All weights whole on every process, in the dtype that computes: for sampling.

    Costs P weights in that dtype a process (2 P bytes for bfloat16) and one gathering; passes
    inside talk to no one, so processes may run as many as they like.
    """
    units = [unit for model in models if sharded(model) for unit in _units(model)]
    for model in filter(sharded, models):
        model.set_reshard_after_forward(False)  # type: ignore[operator]
    try:
        for unit in units:
            unit.unshard()
        yield
    finally:
        for unit in units:
            unit.reshard()
        for model in filter(sharded, models):
            model.set_reshard_after_forward(True)  # type: ignore[operator]
            model.set_reshard_after_forward(False, recurse=False)  # type: ignore[operator]


def recover(model: nn.Module) -> None:
    """Make a sharded model usable again after a pass that raised; its gradients are lost.

    For a world of one: where others take part, they wait for this process in that very pass.
    """
    if sharded(model):
        model.reset_iter_state()  # type: ignore[operator]


def _units(model: nn.Module) -> list[Any]:
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _whole(tensor: Tensor) -> Tensor:
    """A sharded tensor gathered, another one as it is."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()
