"""The shared-prefix forward pass: the prompt of a group passes once, its completions attend to it.

All groups of a micro-batch lie in one row without padding (:mod:`spct.training.layout`); every
token carries its own position, and attention keeps groups and completions apart
(:mod:`spct.training.attention`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spct.training import attention, narrow, plain
from spct.training.groups import Group, Read
from spct.training.layout import lay_out


def completion_states(
    model: nn.Module, groups: Sequence[Group], *, read: Read = "before"
) -> Tensor:
    """See :class:`spct.training.plain.Forward`. Prompts pass once per group.

    Installs its attention function in the model at the first call. Composes with the activation
    checkpointing of ``transformers`` and with LoRA. Whether a family can be served is not asked
    here: use :func:`spct.training.choice.choose`.
    """
    plain.check(groups)
    attention.install(model)
    device = model.get_input_embeddings().weight.device  # type: ignore[operator]
    layout = lay_out([group for group in groups if any(group.lengths)], device, read)
    decoder = model.get_decoder()  # type: ignore[operator]
    with narrow.last_layer(decoder, layout):
        hidden: Tensor = decoder(
            input_ids=layout.ids,
            position_ids=layout.positions,
            # four dimensions: the model passes it on instead of building a [T, T] mask nobody reads
            attention_mask=torch.zeros(1, 1, 1, 1, device=device),
            use_cache=False,
            layout=layout,
        ).last_hidden_state
    return hidden[0].index_select(0, layout.states)
