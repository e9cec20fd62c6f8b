"""Chat templates of several families, and a tokenizer with their special tokens."""

from __future__ import annotations

from typing import Any

from tests.support import tiny_lm

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|begin|>", "<|head|>", "<|/head|>", "<|eot|>", "<|eom|>"]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# strips contents, quotes results of tools, writes calls without content, with an end of their own
LLAMA = """<|begin|>
{%- if tools %}<|head|>system<|/head|>

{% for t in tools %}{{ t | tojson }}{% endfor %}<|eot|>{% endif %}
{%- for m in messages %}
{%- if 'tool_calls' in m %}
{%- if m.tool_calls | length != 1 %}{{ raise_exception('only one call') }}{% endif %}
{%- set f = m.tool_calls[0].function %}<|head|>assistant<|/head|>

{{ '{"name": "' + f.name + '", "parameters": ' }}{{ f.arguments | tojson }}}<|eom|>
{%- elif m.role == 'tool' %}<|head|>ipython<|/head|>

{{ m.content | tojson }}<|eot|>
{%- else %}<|head|>{{ m.role }}<|/head|>

{{ m.content | trim }}<|eot|>{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|head|>assistant<|/head|>

{% endif %}"""

# has no role for the system, and one space before an answer
MISTRAL = """<|begin|>
{%- for m in messages %}
{%- if m.role == 'user' %}[INST] {{ m.content }} [/INST]
{%- elif m.role == 'assistant' %} {{ m.content | trim }}<end>
{%- else %}{{ raise_exception('only user and assistant') }}{% endif %}
{%- endfor %}"""

# wants the arguments of a call as a text and no content beside calls
TEXT_ARGUMENTS = """
{%- for m in messages %}
{%- if m.role == 'assistant' and (m.content is undefined or m.content is none) %}A:
{%- for c in m.tool_calls %}[{{ c.function.name + ' ' + c.function.arguments }}]{% endfor %}<end>
{%- else %}{{ 'A' if m.role == 'assistant' else m.role }}:{{ m.content }}<end>{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}A:{% endif %}"""

# drops the reasoning of turns before the last question; an empty one in the last turn
QWEN = """
{%- if tools %}<|im_start|>system
{% for t in tools %}{{ t | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for m in messages %}
{%- if m.role == 'assistant' %}
{%- set content = m.content %}{% set reasoning = '' %}
{%- if m.reasoning_content is string %}{% set reasoning = m.reasoning_content %}
{%- elif '</think>' in content %}
{%- set reasoning = content.split('</think>')[0].split('<think>')[-1] %}
{%- set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}
{{- '<|im_start|>assistant\n' }}
{%- if loop.index0 > ns.last and (loop.last or reasoning) %}
{{- '<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
{%- else %}{{ content }}{% endif %}
{%- for c in m.tool_calls or [] %}
{%- if content or not loop.first %}{{ '\n' }}{% endif %}
{{- '<tool_call>\n{"name": "' + c.function.name + '", "arguments": ' }}
{%- if c.function.arguments is string %}{{ c.function.arguments }}
{%- else %}{{ c.function.arguments | tojson }}{% endif %}
{{- '}\n</tool_call>' }}{% endfor %}
{{- '<|im_end|>\n' }}
{%- elif m.role == 'tool' %}
{%- if messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\n<tool_response>\n' + m.content + '\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}
{%- else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

# opens the reasoning in the prompt, and drops that of all earlier turns
R1 = """
{%- for m in messages %}
{%- if m.role == 'assistant' %}A:{{ m.content.split('</think>')[-1] }}<end>
{%- else %}{{ m.role }}:{{ m.content }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}A:<think>\n{% endif %}"""


def tokenizer(template: str) -> Any:
    """Return a tokenizer with a token a character, the special tokens above, and a template."""
    made = tiny_lm.tokenizer(chat=True)
    made.add_special_tokens({"additional_special_tokens": SPECIAL})
    made.chat_template = template
    return made
