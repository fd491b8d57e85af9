"""How an exported model is loaded elsewhere, as its card says it."""

from __future__ import annotations

CAUSAL = """## How to load it

`{name}` is this folder.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
{prompt}
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0]))
```

```
vllm serve {name}
ostinato generate {name} --prompt "..."
```"""
CHAT = """messages = [{"role": "user", "content": "..."}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)"""
TEXT = """inputs = tokenizer("...", return_tensors="pt")"""
SCORES = """## How to load it

`{name}` is this folder. The score is the one number of `logits`.

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForSequenceClassification.from_pretrained("{name}")
print(model(**tokenizer("...", return_tensors="pt")).logits)
```"""
ADAPTER = """## How to load it

`{name}` is this folder. With its base, which adapter_config.json names:

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoPeftModelForCausalLM.from_pretrained("{name}")
```"""
OWN = """## How to load it

Only ostinato can, where the class of the model is known: `model: {{init_from: {name}}}` in a config."""


def loading_text(name: str, kind: str, chat: bool) -> str:
    """The section of the card. `chat`: there is a template for conversations."""
    if kind == "causal":
        return CAUSAL.format(name=name, prompt=CHAT if chat else TEXT)
    return {"scores": SCORES, "adapter": ADAPTER}.get(kind, OWN).format(name=name)
