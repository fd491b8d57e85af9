"""Reinforcement learning by the definitions of its papers, in float64 NumPy and plain loops: the truth of the tests.

Slow and literal on purpose, and changed only together with a derivation. Tokens are flat: number t belongs to sequence
`sequence[t]`, sequences are numbered from 0 and ascend, a sequence's tokens are in order.
"""

import numpy as np


def gradient(function, x, step=1e-4):
    """d function(x) / d x by central differences with an error of step^4; `function` gives a number."""
    x = np.array(x, dtype=np.float64)
    slope = np.zeros_like(x)
    for i in range(x.size):

        def at(distance, i=i):
            moved = x.copy()
            moved.flat[i] += distance
            return float(function(moved))

        slope.flat[i] = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
    return slope


def tokens_of(sequence, which):
    return [t for t in range(len(sequence)) if sequence[t] == which]


# --- advantages ------------------------------------------------------------------------------------------------------


def token_returns(rewards, sequence, gamma):
    """G_t = sum over u >= t of gamma^(u - t) r_u, u in the sequence of t. REINFORCE++ (arXiv:2501.03262)."""
    returns = np.zeros(len(rewards))
    for t in range(len(rewards)):
        for distance, u in enumerate([u for u in tokens_of(sequence, sequence[t]) if u >= t]):
            returns[t] += gamma**distance * rewards[u]
    return returns


def gae(rewards, values, after, sequence, gamma, lam):
    """delta_t = r_t + gamma V_next - V_t, A_t = delta_t + gamma lam A_next (arXiv:1506.02438); lam one per sequence."""
    advantages = np.zeros(len(rewards))
    for s in range(len(after)):
        following_value, following_advantage = after[s], 0.0
        for t in reversed(tokens_of(sequence, s)):
            delta = rewards[t] + gamma * following_value - values[t]
            advantages[t] = delta + gamma * lam[s] * following_advantage
            following_value, following_advantage = values[t], advantages[t]
    return advantages


def whiten(values, shift=True):
    """(x - mean) / sqrt(var + 1e-8), var with N - 1."""
    mean = sum(values) / len(values)
    variance = sum((x - mean) ** 2 for x in values) / (len(values) - 1)
    return np.array([(x - mean) / np.sqrt(variance + 1e-8) + (0.0 if shift else mean) for x in values])


def group_advantages(scores, groups, baseline, scale):
    """(advantages, trained); scores None: unscorable. GRPO (arXiv:2402.03300), RLOO (arXiv:2402.14740)."""

    def deviation(numbers):
        mean = sum(numbers) / len(numbers)
        return np.sqrt(sum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1))

    advantages, trained = np.zeros(len(scores)), np.zeros(len(scores), dtype=bool)
    for i, own in enumerate(scores):
        group = [scores[j] for j in range(len(scores)) if groups[j] == groups[i] and scores[j] is not None]
        others = [scores[j] for j in range(len(scores)) if groups[j] == groups[i] and j != i and scores[j] is not None]
        if own is None or (baseline != "none" and len(group) < 2):
            continue
        trained[i] = True
        if max(group) == min(group) and (baseline != "none" or scale == "group_std"):
            continue
        everyone = [x for x in scores if x is not None]
        base = {"group_mean": lambda g=group: sum(g) / len(g), "leave_one_out": lambda o=others: sum(o) / len(o)}
        advantages[i] = own - (0.0 if baseline == "none" else base[baseline]())
        if scale != "none":
            advantages[i] /= deviation(group if scale == "group_std" else everyone) + 1e-6
    return advantages, trained


# --- losses per token ------------------------------------------------------------------------------------------------


def policy_ratio(log_probs, old, sequence, level):
    """exp(lp - old) of a token, or exp of its mean or sum over the token's sequence; exponents within +-20."""
    ratio = np.zeros(len(log_probs))
    for t in range(len(log_probs)):
        own = [t] if level == "token" else tokens_of(sequence, sequence[t])
        exponent = sum(log_probs[u] - old[u] for u in own)
        if level == "sequence_mean":
            exponent /= len(own)
        ratio[t] = np.exp(min(20.0, max(-20.0, exponent)))
    return ratio


def ppo_clip(ratio, advantages, low, high, dual=None):
    """-min(A r, A clip(r)), and where A < 0 not more than -A dual (arXiv:1707.06347, 1912.09729)."""
    losses = np.zeros(len(ratio))
    for t, (r, a) in enumerate(zip(ratio, advantages, strict=True)):
        losses[t] = -min(a * r, a * min(1 + high, max(1 - low, r)))
        if dual is not None and a < 0:
            losses[t] = min(losses[t], -a * dual)
    return losses


def cispo(weights, advantages, log_probs):
    """-w A lp; w, the clipped ratio, is a constant (arXiv:2506.13585)."""
    return np.array([-w * a * lp for w, a, lp in zip(weights, advantages, log_probs, strict=True)])


def clipped(ratio, low, high):
    return np.array([min(high, max(low, r)) for r in ratio])


def sapo(ratio, advantages, positive, negative):
    """-A (4 / t) sigmoid(t (r - 1)) (arXiv:2511.20347)."""
    losses = np.zeros(len(ratio))
    for i, (r, a) in enumerate(zip(ratio, advantages, strict=True)):
        t = positive if a > 0 else negative
        losses[i] = -a * 4 / t / (1 + np.exp(-t * (r - 1)))
    return losses


def value_clip(values, old, returns, clip):
    """1/2 max((V - R)^2, (clip(V, V_old +- clip) - R)^2)."""
    losses = np.zeros(len(values))
    for t, (v, o, r) in enumerate(zip(values, old, returns, strict=True)):
        kept = v if clip is None else min(o + clip, max(o - clip, v))
        losses[t] = 0.5 * max((v - r) ** 2, (kept - r) ** 2)
    return losses


def kl(log_probs, reference, kind):
    """k1 = d, k2 = d^2 / 2, k3 = e^-d + d - 1 of d = lp - ref, which in k3 stays within +-20."""
    estimates = np.zeros(len(log_probs))
    for t, d in enumerate(np.asarray(log_probs) - np.asarray(reference)):
        cut = min(20.0, max(-20.0, d))
        estimates[t] = {"k1": d, "k2": d**2 / 2, "k3": np.exp(-cut) + cut - 1}[kind]
    return estimates


def rollout_weights(old, behaviour, sequence, correction, low, high):
    """Weights of exp(old - beh); a behaviour of nan counts as a ratio of 1."""
    w = [1.0 if np.isnan(b) else np.exp(o - b) for o, b in zip(old, behaviour, strict=True)]
    weights = np.ones(len(w))
    for t in range(len(w)):
        own = [w[u] for u in tokens_of(sequence, sequence[t])]
        product = np.prod(own)
        geometric = product ** (1 / len(own))
        weights[t] = {
            "none": 1.0,
            "token_truncate": min(high, max(low, w[t])),
            "token_mask": w[t] if low <= w[t] <= high else 0.0,
            "sequence_mask": product if low <= product <= high else 0.0,
            "geometric_mask": 1.0 if low <= geometric <= high else 0.0,
        }[correction]
    return weights


def kto(gains, desirable, baseline, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0):
    """w (1 - sigmoid(beta (g - z))), or with z - g where undesirable (arXiv:2402.01306, equations 7 and 8)."""
    losses = np.zeros(len(gains))
    for i, (gain, good) in enumerate(zip(gains, desirable, strict=True)):
        margin, weight = (gain - baseline, desirable_weight) if good else (baseline - gain, undesirable_weight)
        losses[i] = weight * (1 - 1 / (1 + np.exp(-beta * margin)))
    return losses


def kto_baseline(mismatched_gains):
    """z = max(0, mean over the step of the gains of prompts with another prompt's response)."""
    return max(0.0, sum(mismatched_gains) / len(mismatched_gains))


# --- from tokens to a step -------------------------------------------------------------------------------------------


def aggregate(values, sequence, how, max_new_tokens):
    """The loss of a step that holds all of these tokens."""
    sequences = max(sequence) + 1
    if how == "token_mean":
        return sum(values) / len(values)
    if how == "fixed_length":
        return sum(values) / (sequences * max_new_tokens)
    total = 0.0
    for s in range(sequences):
        own = [values[t] for t in tokens_of(sequence, s)]
        total += sum(own) / (len(own) if how == "sequence_mean" else 1)
    return total / sequences


# --- distillation ----------------------------------------------------------------------------------------------------


def generalised_jsd(student_logits, teacher_logits, beta, temperature):
    """beta KL(P|M) + (1-beta) KL(S|M) per row; beta 0: KL(P|S), beta 1: KL(S|P) (arXiv:2306.13649)."""

    def distribution(logits):
        powers = np.exp(logits / temperature - max(logits / temperature))
        return powers / sum(powers)

    def divergence(p, q):
        return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))

    values = np.zeros(len(student_logits))
    for n in range(len(student_logits)):
        s, p = distribution(student_logits[n]), distribution(teacher_logits[n])
        if beta in (0.0, 1.0):
            values[n] = divergence(p, s) if beta == 0.0 else divergence(s, p)
        else:
            m = beta * p + (1 - beta) * s
            values[n] = beta * divergence(p, m) + (1 - beta) * divergence(s, m)
    return values
