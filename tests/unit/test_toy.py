from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from spct import seeds
from spct.data import drills, toy
from spct.data.toy import EVIDENCE, KINDS, Query

QUERY = Query("story , very short", {"vivid": 2, "brief": 3}, "story:brief")


def _draw(kind: str, count: int) -> list[toy.Item]:
    return [toy.make_item(seeds.rng(7, kind, i), kind, "d", f"{i}") for i in range(count)]


def _combination(text: str) -> str:
    """Task and cue criteria read off the words of a query, independently of ``make_query``."""
    task, *cues = text.split(" , ")
    criterion_of = {word: c for c, words in toy.CUES.items() for word in words}
    return f"{task}:{'+'.join(sorted(criterion_of[cue.split()[1]] for cue in cues))}"


def test_quality_by_hand() -> None:
    assert toy.quality(QUERY, "dull terse lucid") == pytest.approx((2 * 2 + 3 * 5) / 5)
    assert toy.quality(QUERY, "terse dazzling and unknown words") == pytest.approx(5.0)
    assert toy.levels_of("dull terse word") == {"vivid": 2, "brief": 5}


def test_every_evidence_word_has_one_reading() -> None:
    words = [w for levels in EVIDENCE.values() for pair in levels.values() for w in pair]
    assert len(words) == len(set(words)) == len(toy.READING)
    assert all(w in EVIDENCE[c][level] for w, (c, level) in toy.READING.items())


@pytest.mark.parametrize("kind", list(KINDS))
def test_items_hold_what_their_kind_promises(kind: str) -> None:
    spec = KINDS[kind]
    places = Counter()
    for item in _draw(kind, 150):
        text = item.messages[-1]["content"]
        weights = item.meta["weights"]
        values = []
        for response in item.responses:
            shown = {toy.READING[w][0]: toy.READING[w][1] for w in response.split()}
            assert len(shown) >= spec.words
            values.append(sum(w * shown[c] for c, w in weights.items()) / sum(weights.values()))
        assert item.meta["quality"] == pytest.approx(values, abs=1e-4)
        ranked = sorted(values)
        margin = ranked[-1] - ranked[-2] if item.n > 1 else abs(values[0] - 3)
        assert toy.MIN_MARGIN <= margin <= spec.max_margin
        truth = [values[0] > 3] if item.n == 1 else max(range(item.n), key=values.__getitem__)
        assert (item.n, item.label.value) == (spec.n, truth)
        assert toy.held_out(_combination(text)) is spec.shift
        places[str(item.label.value)] += 1
    assert len(places) == max(2, spec.n)
    assert min(places.values()) > 150 / (3 * max(2, spec.n))


def test_drills_never_show_a_shift_combination() -> None:
    for i in range(200):
        prompt = drills.weigh_drill(seeds.rng(1, i))[0]
        query = prompt.removeprefix("<weigh> ").removesuffix(" Answer:")
        assert not toy.held_out(_combination(query))


def test_about_a_fifth_of_the_combinations_is_held_out() -> None:
    seen = {toy.make_query(seeds.rng(i), shift=s).combination for i in range(800) for s in (0, 1)}
    share = sum(map(toy.held_out, seen)) / len(seen)
    assert 0.12 < share < 0.35


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_seed_repeats_its_item_and_no_other(kind: str) -> None:
    one, again = (toy.make_item(seeds.rng(3, kind), kind, "d", "x") for _ in range(2))
    assert one == again
    assert toy.fingerprint(one) != toy.fingerprint(toy.make_item(seeds.rng(4, kind), kind, "d", ""))


def _pet_levels(trap: float, n: int) -> tuple[list[int], list[int]]:
    """Level of the pet in the best response and in the others (n = 1: in good and in bad ones)."""
    best, others = [], []
    for i in range(200):
        responses = toy.make_responses(seeds.rng(i), QUERY, n, words=4, trap=trap)
        values = [toy.quality(QUERY, r) for r in responses]
        if n == 1 and values[0] == 3:
            continue
        for index, response in enumerate(responses):
            good = values[0] > 3 if n == 1 else index == int(np.argmax(values))
            # ``detailed`` is the only pet that this query leaves free
            (best if good else others).append(toy.levels_of(response)["detailed"])
    return best, others


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_trap_dims_the_best_and_lets_the_others_shine(n: int) -> None:
    best, others = _pet_levels(1.0, n)
    assert max(best) <= 2 < 4 <= min(others)
    best, others = _pet_levels(0.0, n)
    assert max(best) > 2 and min(others) < 4


def test_fingerprint_ignores_the_order_of_responses() -> None:
    item = _draw("pair", 1)[0]
    turned = toy.Item(**{**item.__dict__, "responses": item.responses[::-1], "id": "other"})
    assert toy.fingerprint(turned) == toy.fingerprint(item)


def test_drills_are_right() -> None:
    for i in range(60):
        rng = seeds.rng("drill", i)
        prompt, answer = drills.read_drill(rng)
        words = prompt.split()[1:-1]
        assert answer == " ".join(f"{toy.READING[w][0]} {toy.READING[w][1]}" for w in words)
        prompt, answer = drills.score_drill(rng)
        weights, levels = prompt.removesuffix(" Answer:").split(" Critique: ")
        w = [int(x) for x in weights.removeprefix("<score> ").split()[1::2]]
        v = [int(x) for x in levels.split()[1::2]]
        mean = sum(a * b for a, b in zip(w, v, strict=True)) / sum(w)
        assert int(answer) == min(10, max(1, round(5.5 + 1.8 * (mean - 3))))
        prompt, answer = drills.check_drill(rng)
        body, claim = prompt.removesuffix(" true").split(" Answer: ")
        query, response = body.removeprefix("<check> Query: ").split(" [1] ")
        if claim.startswith("[1]"):
            _, criterion, level = claim.split()
            holds = toy.levels_of(response)[criterion] == int(level)
        else:
            implied = _combination(query).split(":")[1].split("+") + [toy.TASKS[query.split()[0]]]
            holds = claim.removeprefix("Principles: ") in implied
        assert answer == ("yes" if holds else "no")
