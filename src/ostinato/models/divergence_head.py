"""How far a student is from its teacher, token by token, over a vocabulary whose logits are never held at once.

z = softcap * tanh(scale * W h / softcap) / temperature of each; P = softmax z of the teacher, S of the student
beta KL(P | M) + (1 - beta) KL(S | M), M = beta P + (1 - beta) S; beta 0: KL(P | S), beta 1: KL(S | P)
(GKD, Agarwal et al., arXiv:2306.13649). On logits the same is `losses/divergence.py`. Tiles are those of `head.py`, in
fp32, and are computed once more in the backward pass. N trained tokens, D and E widths, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ostinato.models.head import HeadOptions, accumulate, cached_rows, inside, logits_tile, tiles


class Teacher(NamedTuple):
    """What a student is measured against: the teacher's side of the head, and how they are compared."""

    hidden: Tensor  # (N, E)
    weight: Tensor  # (V, E)
    softcap: float | None
    scale: float
    beta: float
    temperature: float


@dataclass(frozen=True)
class DivergenceScores:
    """Of the trained labels, (N,) fp32 each, in nats; None what was not asked for."""

    divergence: Tensor
    teacher_log_probs: Tensor  # at the temperature of the divergence; without gradient
    log_probs: Tensor | None = None  # the student's


def divergence_scores(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    teacher: Teacher,
    *,
    softcap: float | None = None,
    scale: float = 1.0,
    tile: tuple[int, int] | None = None,
) -> DivergenceScores:
    """Of a student's hidden states (N, D), output weight (V, D) and labels (N,) from its teacher."""
    values, log_probs = _apply(
        (hidden, weight, softcap, scale),
        (teacher.hidden, teacher.weight, teacher.softcap, teacher.scale),
        labels,
        beta=teacher.beta,
        temperature=teacher.temperature,
        tile=tile,
    )
    return DivergenceScores(values, log_probs)


def divergence(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    beta: float,
    temperature: float = 1.0,
    student_softcap: float | None = None,
    student_scale: float = 1.0,
    teacher_softcap: float | None = None,
    teacher_scale: float = 1.0,
    tile: tuple[int, int] | None = None,
) -> Tensor:
    """(N,) fp32 in nats, of hidden states (N, D) and (N, E) and output weights (V, D) and (V, E).

    Gradients go to the student's hidden states and weight alone. `tile`: rows and columns, None: chosen by size. Raises
    ValueError for shapes that do not fit each other, a beta outside [0, 1] or a temperature that is not above 0.
    """
    student = student_hidden, student_weight, student_softcap, student_scale
    teacher = teacher_hidden, teacher_weight, teacher_softcap, teacher_scale
    return _apply(student, teacher, None, beta=beta, temperature=temperature, tile=tile)[0]


Head = tuple[Tensor, Tensor, float | None, float]


def _apply(
    student: Head, teacher: Head, labels: Tensor | None, *, beta: float, temperature: float, tile: Any
) -> tuple[Tensor, Tensor]:
    """(N,) divergences, and (N,) log-probs of the labels under the teacher, or (0,) without labels."""
    if not 0.0 <= beta <= 1.0 or temperature <= 0.0:
        raise ValueError(f"beta {beta} must lie in [0, 1] and temperature {temperature} above 0")
    for what, place in (("vocabulary", 1), ("number of tokens", 0)):
        ours, theirs = len(student[place]), len(teacher[place])  # type: ignore[arg-type]
        if ours != theirs:
            raise ValueError(f"the student's {what} is {ours}, the teacher's {theirs}: they must be the same")
    device = student[0].device.type
    auto = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    options = [HeadOptions(*side[2:], temperature, auto or side[0].dtype, tile) for side in (student, teacher)]
    fixed = [tensor.detach() for tensor in teacher[:2]]  # type: ignore[union-attr]
    with torch.autocast(device, enabled=False):
        result: tuple[Tensor, Tensor] = _Divergence.apply(*student[:2], *fixed, labels, *options, beta)
    return result


class _Side(NamedTuple):
    """Student or teacher, with operands in the dtype of its products."""

    hidden: Tensor
    weight: Tensor
    options: HeadOptions

    @staticmethod
    def of(hidden: Tensor, weight: Tensor, options: HeadOptions) -> _Side:
        return _Side(hidden.to(options.dtype), weight.to(options.dtype), options)

    def logits(self, rows: slice, columns: slice) -> Tensor:
        return logits_tile(self.hidden[rows], self.weight[columns], None, self.options)

    def normaliser(self, rows: slice, spans: list[slice]) -> Tensor:
        """logsumexp z over all columns, (n,)."""
        total = self.logits(rows, spans[0]).logsumexp(dim=1)
        for span in spans[1:]:
            total = torch.logaddexp(total, self.logits(rows, span).logsumexp(dim=1))
        return total


def _log_softmax(z: Tensor, normaliser: Tensor | None) -> Tensor:
    """log p of one tile; `normaliser` None: the tile holds the whole vocabulary."""
    return z.log_softmax(dim=1) if normaliser is None else z - normaliser.unsqueeze(1)


def _log_middle(log_s: Tensor, log_p: Tensor, beta: float) -> Tensor:
    """What the student is measured from: log M, at beta 1 log P."""
    return log_p if beta == 1.0 else torch.logaddexp(log_p + math.log(beta), log_s + math.log1p(-beta))


class _Divergence(torch.autograd.Function):
    """(N,) of (N, D) x (V, D) and (N, E) x (V, E); with labels (N,) their log-probs under the teacher too, (N,)."""

    @staticmethod
    def forward(
        context: Any,
        student_hidden: Tensor,
        student_weight: Tensor,
        teacher_hidden: Tensor,
        teacher_weight: Tensor,
        labels: Tensor | None,
        student_options: HeadOptions,
        teacher_options: HeadOptions,
        beta: float,
    ) -> tuple[Tensor, Tensor]:
        student = _Side.of(student_hidden, student_weight, student_options)
        teacher = _Side.of(teacher_hidden, teacher_weight, teacher_options)
        wide = torch.float64 if student_options.dtype == torch.float64 else torch.float32
        normalisers = student_hidden.new_zeros((2, len(student_hidden)), dtype=wide)
        sums = torch.zeros_like(normalisers)  # the teacher's divergence and the student's
        labelled = normalisers.new_zeros(0 if labels is None else len(labels))
        for part, spans in tiles(len(student_hidden), len(student_weight), student_options.tile):
            own: tuple[Tensor | None, Tensor | None] = None, None
            if len(spans) > 1:
                normalisers[0, part] = student.normaliser(part, spans)
                normalisers[1, part] = teacher.normaliser(part, spans)
                own = normalisers[0, part], normalisers[1, part]
            for span in spans:
                log_s = _log_softmax(student.logits(part, span), own[0])
                log_p = _log_softmax(teacher.logits(part, span), own[1])
                if labels is not None:
                    labelled[part] = torch.where(*inside(labels[part] - span.start, log_p), labelled[part])
                for rows in cached_rows(log_s):
                    _add_divergences(sums[:, part][:, rows], log_s[rows], log_p[rows], beta)
        context.beta, context.options = beta, (student_options, teacher_options)
        context.save_for_backward(student_hidden, student_weight, teacher_hidden, teacher_weight, normalisers, sums[1])
        context.set_materialize_grads(False)
        context.mark_non_differentiable(labelled)
        return (1.0 - beta) * sums[1] + beta * sums[0] if 0.0 < beta < 1.0 else sums[int(beta)].clone(), labelled

    @staticmethod
    def backward(context: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradients[0] is None:
            return (None,) * 8
        with torch.autocast(gradients[0].device.type, enabled=False):
            return _Divergence._backward(context, gradients[0])

    @staticmethod
    def _backward(context: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, teacher_hidden, teacher_weight, normalisers, of_student = context.saved_tensors
        options: HeadOptions = context.options[0]
        student, teacher = (
            _Side.of(hidden, weight, options),
            _Side.of(teacher_hidden, teacher_weight, context.options[1]),
        )
        make = torch.empty_like if len(hidden) else torch.zeros_like
        d_hidden = make(student.hidden, dtype=normalisers.dtype) if context.needs_input_grad[0] else None
        d_weight = make(student.weight, dtype=normalisers.dtype) if context.needs_input_grad[1] else None
        for part, spans in tiles(len(hidden), len(weight), options.tile):
            own = (normalisers[0, part], normalisers[1, part]) if len(spans) > 1 else (None, None)
            for span in spans:
                z = student.logits(part, span)
                log_p = _log_softmax(teacher.logits(part, span), own[1])
                log_s = _log_softmax(z, own[0])
                for rows in cached_rows(z):
                    slope = _slope(log_s[rows], log_p[rows], of_student[part][rows].unsqueeze(1), context.beta)
                    slope.mul_(upstream[part][rows].unsqueeze(1))
                    log_s[rows] = _through_logits(slope, z[rows], options)
                d_z = log_s.to(options.dtype)  # rounded here, once, where the products' operands are bf16
                if d_hidden is not None:
                    accumulate(d_hidden[part], d_z, student.weight[span], first=span.start == 0)
                if d_weight is not None:
                    accumulate(d_weight[span], d_z.t(), student.hidden[part], first=part.start == 0)
        return (
            None if d_hidden is None else d_hidden.to(hidden.dtype),
            None if d_weight is None else d_weight.to(weight.dtype),
            *(None,) * 6,
        )


def _add_divergences(sums: Tensor, log_s: Tensor, log_p: Tensor, beta: float) -> None:
    """Add a tile's part of KL(P | M) to the first row of `sums` and of KL(S | M) to the second; M at beta 0 is S."""
    middle = log_s if beta == 0.0 else _log_middle(log_s, log_p, beta)
    if beta < 1.0:
        sums[0] += (log_p.exp() * (log_p - middle)).sum(dim=1)
    if beta > 0.0:
        sums[1] += (log_s.exp() * (log_s - middle)).sum(dim=1)


def _slope(log_s: Tensor, log_p: Tensor, of_student: Tensor, beta: float) -> Tensor:
    """d divergence / d z: (1 - beta) S (log S - log M - KL(S | M)); S - P at beta 0, S (log S - log P - KL) at 1."""
    s = log_s.exp()
    if beta == 0.0:
        return s.sub_(log_p.exp())
    slope = (log_s - _log_middle(log_s, log_p, beta)).sub_(of_student).mul_(s)
    return slope if beta == 1.0 else slope.mul_(1.0 - beta)


def _through_logits(slope: Tensor, z: Tensor, options: HeadOptions) -> Tensor:
    """From d / d z to d / d (W h)."""
    if options.softcap is not None:
        tanh = z * (options.temperature / options.softcap)
        slope.mul_(tanh.square_().neg_().add_(1.0))
    return slope.mul_(options.scale / options.temperature)
