"""Text of the toy world that is not judging: it teaches skills, and keeps them during fine-tuning.

Each drill asks for one skill without noise: read evidence, weigh a query, score, check a statement.
The toy bases are pretrained on them; RFT mixes them in where a language model gets general
instruction data.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spct.data import toy

Pair = tuple[str, str]  # prompt, completion


def spell(levels: dict[str, int]) -> str:
    """Criteria and numbers as words: ``brief 2 vivid 5``."""
    return " ".join(f"{criterion} {level}" for criterion, level in levels.items())


def read_drill(rng: np.random.Generator) -> Pair:
    """Evidence words to criteria and levels, in the order written."""
    words = [str(w) for w in rng.choice(list(toy.READING), size=int(rng.integers(3, 7)))]
    seen: dict[str, int] = {}
    kept = []
    for word in words:
        criterion, level = toy.READING[word]
        if criterion not in seen:
            seen[criterion] = level
            kept.append(word)
    return f"<read> {' '.join(kept)} Answer:", spell(seen)


def weigh_drill(rng: np.random.Generator) -> Pair:
    """A query to the criteria it implies, with weights. Shift combinations stay unseen."""
    query = toy.make_query(rng)
    return f"<weigh> {query.text} Answer:", spell(query.weights)


def score_drill(rng: np.random.Generator) -> Pair:
    """Weights and levels to a score without noise (gain 1.8)."""
    criteria = [str(c) for c in rng.permutation(list(toy.CRITERIA))[: int(rng.integers(1, 5))]]
    weights = {c: int(rng.integers(1, 4)) for c in criteria}
    levels = {c: int(rng.integers(1, 6)) for c in criteria}
    mean = sum(weights[c] * levels[c] for c in criteria) / sum(weights.values())
    score = int(np.clip(round(5.5 + 1.8 * (mean - 3)), 1, 10))
    return f"<score> {spell(weights)} Critique: {spell(levels)} Answer:", str(score)


def check_drill(rng: np.random.Generator) -> Pair:
    """Statements about a query and a response, each answered by yes or no."""
    query = toy.make_query(rng)
    response = toy.make_responses(rng, query, 1, words=4, trap=0.0)[0]
    shown, right = toy.levels_of(response), bool(rng.random() < 0.5)
    if rng.random() < 0.5:
        criterion = str(rng.choice(list(shown)))
        level = (
            shown[criterion]
            if right
            else int(rng.choice([x for x in range(1, 6) if x != shown[criterion]]))
        )
        claim = f"[1] {criterion} {level}"
    else:
        pool = [c for c in toy.CRITERIA if (c in query.weights) == right]
        claim = f"Principles: {rng.choice(pool)}"
    prompt = f"<check> Query: {query.text} [1] {response} Answer: {claim} true"
    return prompt, "yes" if right else "no"


DRILLS: dict[str, Callable[[np.random.Generator], Pair]] = {
    "read": read_drill,
    "weigh": weigh_drill,
    "score": score_drill,
    "check": check_drill,
}
