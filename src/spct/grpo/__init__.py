"""Online GRPO on rule-based rewards (paper §3.2)."""
