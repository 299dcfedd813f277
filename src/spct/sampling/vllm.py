"""vLLM, offline: continuous batching and a prefix cache; on GPUs the engine of choice.

Everything is written against vLLM 0.32. Requests go in sorted by prompt, so that the prefix cache
finds the samples of an item and items with the same head. Draws are vLLM's own, from a generator a
request; log-probs are its ``processed_logprobs``: after temperature and nucleus. With weights in
this process (GRPO) the engine runs here too and takes them over as they change, else it reads the
model's files.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from spct import artifact
from spct.errors import ConfigError, StageStopped
from spct.finish import VLLM, Finish, meaning
from spct.lm import LM
from spct.sampling.base import Completion, Request
from spct.sampling.deadline import Deadline
from spct.sampling.installed import MISSING
from spct.sampling.stops import Stops
from spct.schema import SamplerConfig

# Places of a key-value block without GPU. vLLM's own 128 would share no shorter prefix.
CPU_BLOCK = 32
# A temperature below this is one to vLLM.
LEAST_TEMPERATURE = 0.01


class VllmSampler:
    """See the module docstring.

    ``cached_tokens``: prompt tokens that the prefix cache spared, of ``prompt_tokens``, so far.
    """

    def __init__(self, lm: LM, config: SamplerConfig) -> None:
        """Raises ``ConfigError`` for a missing package, model folder or adapter."""
        self.lm, self.config = lm, config
        self.stops = Stops(lm, config)
        self.version: int | None = None
        self.cached_tokens = self.prompt_tokens = 0
        self._asleep = False
        self._ready = True  # awake, with whole weights
        self._adapter = _adapter(config.vllm.adapter)
        self._deadline = Deadline(
            config.vllm.deadline, "raise sampler.vllm.deadline if the machine is only slow"
        )
        self._engine = _start(lm, config, self._adapter)

    # ---- sampling ----------------------------------------------------------------------------

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """Raises ``StageStopped`` if an engine step does not end or gives other weights' tokens."""
        if not self._ready:
            raise StageStopped("vllm: no weights to sample with; refresh them first")
        if not requests:
            return []
        order = sorted(range(len(requests)), key=lambda i: requests[i].prompt)
        outputs = self._run([requests[i] for i in order])
        done = {i: self._completion(output) for i, output in zip(order, outputs, strict=True)}
        self.prompt_tokens += sum(len(request.prompt) for request in requests)
        self.cached_tokens += sum(output.num_cached_tokens or 0 for output in outputs)
        return [done[i] for i in range(len(requests))]

    def _run(self, requests: Sequence[Request]) -> list[Any]:
        """vLLM's outputs, in the order asked."""
        engine = self._engine.llm_engine
        names = self._deadline("vllm: taking in the requests", lambda: self._enqueue(requests))
        finished: list[Any] = []
        try:
            while len(finished) < len(names):
                outputs = self._deadline("vllm: an engine step", engine.step)
                finished += [output for output in outputs if output.finished]
        except BaseException:  # what is left would come back to the next caller
            if not self._deadline.lost:
                engine.abort_request(names, internal=True)
            raise
        return sorted(finished, key=lambda output: int(output.request_id))

    def _enqueue(self, requests: Sequence[Request]) -> list[str]:
        prompts = [{"prompt_token_ids": list(request.prompt)} for request in requests]
        params = [self._params(request) for request in requests]
        names: list[str] = self._engine.enqueue(
            prompts, params, lora_request=self._adapter, use_tqdm=False
        )
        return names

    def _params(self, request: Request) -> Any:
        """Stops where :class:`spct.sampling.stops.Stops` ends a text, whatever vLLM thinks."""
        from vllm import SamplingParams

        if 0 < request.temperature < LEAST_TEMPERATURE:
            raise ConfigError(
                f"temperature {request.temperature}: vLLM has none below {LEAST_TEMPERATURE} but 0"
            )
        return SamplingParams(
            temperature=request.temperature,
            top_p=self.config.top_p if request.temperature else 1.0,
            seed=request.seed,
            max_tokens=self.config.max_new_tokens,
            ignore_eos=True,
            stop_token_ids=sorted(self.stops.tokens),
            stop=list(self.stops.strings),
            logprobs=0,
            detokenize=bool(self.stops.strings),
            skip_special_tokens=False,
        )

    def _completion(self, output: Any) -> Completion:
        sampled = output.outputs[0]
        finish = VLLM.get(sampled.finish_reason, Finish.unknown)
        if meaning(finish).lost:
            why = f"vllm ended the request with {sampled.finish_reason!r}"
            return Completion((), (), finish, error=why, version=self.version)
        versions = [span.version for span in sampled.weight_versions or ()]
        if self.version is not None and versions != [str(self.version)]:
            raise StageStopped(
                f"vllm: tokens of weights {', '.join(versions)}, not of {self.version}"
            )
        ids = tuple(sampled.token_ids)
        pairs = zip(ids, sampled.logprobs, strict=True)
        logprobs = tuple(entry[token].logprob for token, entry in pairs)
        done = self.stops.completion(ids, logprobs)
        if finish == Finish.stop and done.finish == Finish.length:
            raise StageStopped(
                f"vllm: a text stopped at {sampled.stop_reason!r}, which is no end of this model "
                "and not in sampler.stop"
            )
        return replace(done, version=self.version)

    # ---- weights -----------------------------------------------------------------------------

    def refresh(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Take over ``weights``, on the engine's device or any other; the same version only once.

        Raises ``StageStopped`` if that does not end in time.
        """
        if version == self.version and self._ready:
            return
        self._ready = False
        self._deadline("vllm: taking over the weights", lambda: self._take(weights, version))
        self.version, self._ready = version, True

    def _take(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        engine = self._engine
        if self._asleep:
            engine.wake_up(tags=["weights"])
        engine.start_weight_update()
        engine.update_weights({"update_info": {"weights": weights}})
        engine.finish_weight_update(weight_version=str(version))
        if self._asleep:
            engine.wake_up(tags=["kv_cache"])
        self._asleep = False
        engine.reset_prefix_cache()  # keys and values of the old weights

    def rest(self) -> None:
        """Free the GPU memory of weights and cache until :meth:`refresh`; nothing without GPU."""
        if torch.cuda.is_available() and not self._asleep:
            self._ready = False
            self._deadline("vllm: falling asleep", lambda: self._engine.sleep(level=2))
            self._asleep = True


# ---- start -------------------------------------------------------------------------------------


def _start(lm: LM, config: SamplerConfig, adapter: Any) -> Any:
    """The ``vllm.LLM``, in this process where its weights are to be taken over from it."""
    colocated, gpus = lm.weights is not None, torch.cuda.device_count()
    one_of_many = colocated and dist.is_initialized() and dist.get_world_size() > 1
    _environment(colocated)
    if not lm.source or lm.spec is None:
        raise ConfigError("sampler.engine=vllm needs a model that lies in a folder or on the hub")
    options: dict[str, Any] = {
        "model": lm.source,
        "revision": lm.spec.revision,
        "trust_remote_code": lm.spec.trust_remote_code,
        "dtype": lm.spec.dtype,
        "skip_tokenizer_init": not config.stop,
        "use_tqdm_on_load": False,
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
        "enable_prefix_caching": True,
        "max_model_len": _length(lm, config),
        "max_num_seqs": config.batch_size,
        "enforce_eager": config.vllm.enforce_eager or not gpus,
        "tensor_parallel_size": 1 if colocated or not gpus else _tensor_parallel(lm, gpus),
        **_memory(config, gpus),
    }
    if config.vllm.max_batched_tokens:
        options["max_num_batched_tokens"] = config.vllm.max_batched_tokens
    if adapter is not None:
        if colocated:
            raise ConfigError("sampler.vllm.adapter: a model in training takes no adapter")
        options |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank(adapter.lora_path)}
    if colocated:
        from spct.sampling import vllm_weights

        options |= vllm_weights.options(sleeps=gpus > 0)
        if one_of_many:  # each process on its own GPU
            options["distributed_executor_backend"] = "external_launcher"
    from vllm import LLM

    gc.collect()  # an engine of before, once collected, ends the process groups of this process
    threads = torch.set_num_threads  # vLLM replaces it without GPU, for this whole process
    try:
        engine = LLM(**options)
    finally:
        torch.set_num_threads = threads
    if one_of_many:  # at exit the process groups are gone; all else goes with the process
        engine.llm_engine.engine_core._finalizer.atexit = False
    return engine


def _environment(colocated: bool) -> None:
    """What vLLM reads from the environment when it is imported; settings that stand win."""
    settings = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    if not torch.cuda.is_available():
        settings["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # starts in a tenth of the time
        settings["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # other jobs may be on the first cores
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    if colocated:  # weights are handed over as they are
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{MISSING} ({error})") from error


def _length(lm: LM, config: SamplerConfig) -> int:
    """Tokens of the longest request, at most the model's context."""
    wanted = config.max_prompt_tokens + config.max_new_tokens
    return wanted if lm.context is None else min(wanted, lm.context)


def _tensor_parallel(lm: LM, gpus: int) -> int:
    heads = lm.config.get_text_config().num_attention_heads
    if heads % gpus:
        raise ConfigError(
            f"sampler.engine=vllm: {heads} attention heads cannot be split over {gpus} GPUs; "
            "ask for another number of GPUs in the profile"
        )
    return gpus


def _memory(config: SamplerConfig, gpus: int) -> dict[str, Any]:
    if gpus:
        return {"gpu_memory_utilization": config.vllm.gpu_memory}
    size = int(config.vllm.kv_cache_gib * 2**30)
    return {"kv_cache_memory_bytes": size, "block_size": CPU_BLOCK}


def adapted(model: LM, config: SamplerConfig) -> LM:
    """The model as banks should name it: with an adapter, another hash."""
    folder = config.vllm.adapter
    if config.engine != "vllm" or not folder:
        return model
    _check_adapter(folder)
    files = sorted(p for p in Path(folder).iterdir() if p.name.startswith("adapter_"))
    parts = [model.hash, *(artifact.file_hash(path) for path in files)]
    return replace(model, hash=artifact.text_hash(" ".join(parts))[:16])


def _check_adapter(folder: str) -> None:
    if not (Path(folder) / "adapter_config.json").is_file():
        raise ConfigError(f"sampler.vllm.adapter: {folder} has no adapter_config.json")


def _adapter(folder: str) -> Any:
    """vLLM's request for the adapter, or None."""
    if not folder:
        return None
    _check_adapter(folder)
    try:
        from vllm.lora.request import LoRARequest
    except ImportError as error:
        raise ConfigError(f"{MISSING} ({error})") from error
    return LoRARequest("adapter", 1, str(Path(folder).resolve()))


def _rank(folder: str) -> int:
    """The adapter's rank, rounded up to one that vLLM has."""
    rank = int(json.loads((Path(folder) / "adapter_config.json").read_text())["r"])
    return max(8, 1 << (rank - 1).bit_length())
