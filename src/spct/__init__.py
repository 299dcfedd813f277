"""Self-Principled Critique Tuning: reward models that improve the more they are sampled."""

__version__ = "0.1.0"
