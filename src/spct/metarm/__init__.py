"""The meta reward model: one logit per judgement, is it right?."""
