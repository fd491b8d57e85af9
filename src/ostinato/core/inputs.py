"""What a model is told by its surroundings: everything else about it is in its options."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelInputs:
    """`vocab_size` of the tokenizer (0 without one) and the longest `sequence_length` of the data, in tokens."""

    vocab_size: int
    sequence_length: int
