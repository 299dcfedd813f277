"""Online GRPO on rule-based rewards."""
