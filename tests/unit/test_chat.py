"""Chat templates that write the date write the day of the configuration, or are refused."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers.utils.chat_template_utils as clock

import spct
from spct import chat, config, lm
from spct.artifact import read_manifest
from spct.baselines import stock
from spct.baselines.encoding import Encoder
from spct.config import Slice
from spct.errors import ConfigError
from spct.judge.task import Judge
from spct.pretrain import tokenizer
from spct.records import Item, write_items
from spct.sampling import stages
from spct.schema import ModelConfig

# Behind an apostrophe and a sign that pair with the quotes of the format.
PROSE = (
    "{% if true %}You're {% if true %}Bot's{% endif %} on {{ strftime_now('%d %B') }}. {% endif %}"
)
MESSAGES = "{% for m in messages %}{{ m.content }}{% endfor %}"
# The heads of templates that are in use.
LLAMA_3_1 = """{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{{- "Today Date: " + date_string + "\\n" }}"""
LLAMA_3_2 = """{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "Today Date: " + date_string + "\\n" }}"""
GRANITE = "{{- \"Today's Date: \" + strftime_now('%B %d, %Y') + '.\\n' }}"
SMOLLM = """{%- set today = strftime_now("%d %B %Y") -%}{{ "Today Date: " + today + "\\n" }}"""
GPT_OSS = """{%- macro head() -%}{{ "Current date: " + strftime_now("%Y-%m-%d") }}{%- endmacro -%}
{{ head() }}
"""
BRIEF = "{{ 'brief ' * (strftime_now('%d') | int) }}"  # in words that the toy tokenizer knows
TURN = [{"role": "user", "content": "story"}]
DATE = "2025-03-04"


def written(template: str, date: str = DATE) -> str:
    tok = tokenizer.build()
    tok.chat_template = template + MESSAGES
    return chat.render(tok, TURN, date=date)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        pytest.param(LLAMA_3_1, "Today Date: 04 Mar 2025\nstory", id="llama 3.1"),
        pytest.param(LLAMA_3_2, "Today Date: 04 Mar 2025\nstory", id="llama 3.2"),
        pytest.param(GRANITE, "Today's Date: March 04, 2025.\nstory", id="granite"),
        pytest.param(SMOLLM, "Today Date: 04 March 2025\nstory", id="smollm3"),
        pytest.param(GPT_OSS, "Current date: 2025-03-04\nstory", id="gpt-oss"),
        pytest.param(PROSE, "You're Bot's on 04 March. story", id="prose"),
        pytest.param(BRIEF, "brief brief brief brief story", id="as a number"),
        pytest.param("{{ strftime_now(format='%H:%M') }} ", "00:00 story", id="midnight"),
        pytest.param(
            '\n  {% if true %}{{ strftime_now("%y") }}{% endif %}', "\n25story", id="space"
        ),
        pytest.param("no date: ", "no date: story", id="undated"),
    ],
)
def test_the_day_is_that_of_the_configuration(template: str, text: str) -> None:
    assert written(template) == text


def test_it_is_what_transformers_writes_on_that_day(monkeypatch: pytest.MonkeyPatch) -> None:
    class Then(datetime.datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime.datetime:
            return datetime.datetime(2025, 3, 4)

    monkeypatch.setattr(clock, "datetime", Then)
    for template in (LLAMA_3_2, GRANITE, SMOLLM, GPT_OSS):
        tok = tokenizer.build()
        tok.chat_template = template + MESSAGES
        assert written(template) == tok.apply_chat_template(TURN, tokenize=False)


@pytest.mark.parametrize(
    "template",
    [LLAMA_3_2, GRANITE, SMOLLM, GPT_OSS],
    ids=["llama 3.2", "granite", "smollm3", "gpt-oss"],
)
def test_without_a_day_it_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match=r"^model\.date: .*YYYY-MM-DD"):
        written(template, date="")


def test_a_template_with_a_default_keeps_it() -> None:
    assert written(LLAMA_3_1, date="") == "Today Date: 26 Jul 2024\nstory"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        pytest.param("{% set f = '%' ~ 'Y' %}{{ strftime_now(f) }}", "strftime_now", id="made up"),
        pytest.param("{{ [1, 2] | random }}", "at random", id="chance"),
        pytest.param("{{ raise_exception('no system turn') }}", "no system turn", id="its own"),
    ],
)
def test_what_cannot_be_told_again_is_refused(template: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        written(template)


PARTS = (  # of LLaVA, SmolVLM and their kin: a text as such has no parts, and so is left out
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}"
    "{% endif %}{% endfor %}{% endfor %}"
)


def test_a_template_that_reads_parts_gets_parts() -> None:
    tok = tokenizer.build()
    tok.chat_template = PARTS
    assert chat.render(tok, [*TURN, {"role": "assistant", "content": "brief"}]) == "storybrief"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        pytest.param("{{ 'the same' }}", "leaves out what the user says", id="left out"),
        pytest.param("{{ messages[0].content + 1 }}", "says: .*str", id="a type error"),
        pytest.param({"rag": MESSAGES}, "no default", id="none of several"),
    ],
)
def test_a_template_without_the_users_text_is_refused(template: Any, told: str) -> None:
    tok = tokenizer.build()
    tok.chat_template = template
    with pytest.raises(ConfigError, match=rf"^model\.source: .*{told}"):
        chat.render(tok, TURN)


@pytest.mark.parametrize(
    "date",
    [
        pytest.param("today", id="word"),
        pytest.param("2025-02-30", id="no such day"),
        pytest.param("26 Jul 2024", id="words"),
        pytest.param("2025-3-4", id="short"),
    ],
)
def test_a_day_has_one_form(date: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.date"):
        config.load(["model=toy_s", f"model.date='{date}'"])


def test_an_endpoint_renders_its_own_template() -> None:
    asked = ["experiment=deepseek_endpoint", f"model.date={DATE}"]
    with pytest.raises(ConfigError, match=r"model\.date.*sampler\.openai\.extra"):
        config.load(asked)


def test_no_other_place_renders_a_template() -> None:
    folder = Path(spct.__file__).parent
    users = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if re.search(r"\.apply_chat_template\(", path.read_text("utf-8"))
    }
    assert users - {"ends.py"} == {"chat.py"}  # which looks for marks in it and makes no prompt


# ---- where prompts are made --------------------------------------------------------------------


@pytest.fixture
def dated(tiny_folder: Path, tmp_path: Path) -> Path:
    """A tiny model with a template that writes the date."""
    loaded = lm.load(ModelConfig("tiny", str(tiny_folder), None, "float32", False))
    loaded.tokenizer.chat_template = BRIEF + MESSAGES
    (tmp_path / "dated").mkdir()
    lm.save(loaded, tmp_path / "dated")
    return tmp_path / "dated"


def spec(folder: Path, date: str) -> ModelConfig:
    return ModelConfig("tiny", str(folder), None, "float32", False, date)


def test_banks_of_two_days_are_of_two_tokenizers(dated: Path) -> None:
    one, two = (lm.load(spec(dated, date)) for date in (DATE, "2025-03-05"))
    assert one.encode_prompt("story") != two.encode_prompt("story")
    assert one.tokenizer_hash != two.tokenizer_hash
    with pytest.raises(ConfigError, match=r"model\.date"):
        lm.load(spec(dated, ""))


def test_a_bank_names_its_day(
    dated: Path, slice_of: Callable[..., Slice], make_items: Callable[..., list[Item]],
    tmp_path: Path,
) -> None:  # fmt: skip
    items, out = tmp_path / "items.parquet", tmp_path / "bank.parquet"
    write_items(items, make_items("pair", 1), seed=0)
    asked = [f"model.source={dated}", "bench.k_max=1", "bench.shards=1", "bench.greedy=false"]
    cfg = slice_of("judge", *asked, f"model.date={DATE}")
    stages.judge(cfg, 0, items=items, shard=0, policy="base", out=out)
    assert read_manifest(out)["slice"]["model"]["date"] == DATE
    with pytest.raises(ConfigError, match=r"model\.date"):
        stages.judge(slice_of("judge", *asked), 0, items=items, shard=0, policy="base", out=out)


def test_reward_models_read_the_same_day(
    dated: Path, judge: Judge, make_items: Callable[..., list[Item]]
) -> None:
    texts = [
        Encoder(lm.load(spec(dated, date)), judge).responses(make_items("pair", 1)[0])
        for date in (DATE, DATE, "2025-03-05")
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_stock_reward_model_without_a_day_is_refused(dated: Path, tmp_path: Path) -> None:
    from spct.metarm import model as scalar

    made = scalar.load(spec(dated, DATE))
    made.model.save_pretrained(tmp_path / "rm")
    made.text.tokenizer.save_pretrained(tmp_path / "rm")
    stock.load(spec(tmp_path / "rm", DATE))
    with pytest.raises(ConfigError, match=r"model\.date"):
        stock.load(replace(spec(tmp_path / "rm", DATE), date=""))
